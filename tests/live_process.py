"""The live query, Delta tables included, in a process of its own, for tests that kill it.

python -m tests.live_process EVENTS_DIR TABLES_DIR [once]
"""

import sys
from pathlib import Path

from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.live.query import start_live_query
from longtail.streaming.tables.delta import DELTA_DIRECTORY, DeltaTables

if __name__ == "__main__":
    events_dir, tables_dir = map(Path, sys.argv[1:3])
    query = start_live_query(
        spark_session("live", SparkJobOptions(master="local[2]")),
        events_dir,
        tables_dir=tables_dir,
        trigger=None if sys.argv[3:] == ["once"] else "50 milliseconds",
        on_update=DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY).update,
    )
    print("started", flush=True)
    query.awaitTermination()
