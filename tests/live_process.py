"""The live query, Delta tables included, in a process of its own, for tests that kill it.

python -m tests.live_process EVENTS_DIR TABLES_DIR
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.live.query import LiveQuery, start_live_query
from longtail.streaming.tables.delta import DELTA_DIRECTORY, DeltaTables


def keep_tables(spark: SparkSession, events_dir: Path, tables_dir: Path, *, trigger: str | None) -> LiveQuery:
    """Start the query. trigger: None for one that ends when it has read all that is there."""
    return start_live_query(
        spark,
        events_dir,
        tables_dir=tables_dir,
        trigger=trigger,
        on_update=DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY).update,
    )


if __name__ == "__main__":
    session = spark_session("live", SparkJobOptions(master="local[2]"))
    query = keep_tables(session, Path(sys.argv[1]), Path(sys.argv[2]), trigger="50 milliseconds")
    print("started", flush=True)
    query.awaitTermination()
