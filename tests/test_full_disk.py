"""The live query on a full disk: one error that names the directory; with room, the same query goes on."""

import subprocess
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.spark_jobs.cluster.failures import user_message
from longtail.spark_jobs.steps.live_sinks import update_sinks
from longtail.streaming.live.query import start_live_query
from longtail.streaming.tables.reading import read_result_table
from tests.test_directories import small_disk
from tests.test_followed_runs import write_events

NUM_RUNS = 20


def keep_tables(spark: SparkSession, runs_dir: Path, tables_dir: Path) -> None:
    query = start_live_query(
        spark,
        runs_dir / "events",
        tables_dir=tables_dir,
        trigger=None,
        runs_dir=runs_dir,
        on_update=update_sinks(tables_dir, tensorboard=None, as_delta=True),
    )
    query.awaitTermination()


@pytest.mark.parametrize("size", ["4k", "100k", "300k", "500k"])
@pytest.mark.long
def test_on_a_full_disk_the_query_ends_with_one_line_and_goes_on_when_there_is_room(
    spark: SparkSession, tmp_path: Path, size: str
) -> None:
    for number in range(NUM_RUNS):
        write_events(tmp_path / "runs", f"run{number}", 1, 2)
    with small_disk(tmp_path / "disk", size) as disk:
        tables_dir = disk / "tables"
        with pytest.raises(Exception) as caught:  # noqa: PT011 - as the job's caller gets it
            keep_tables(spark, tmp_path / "runs", tables_dir)
        message = user_message(caught.value)
        assert message is not None and str(tables_dir) in message and "free some space" in message
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        keep_tables(spark, tmp_path / "runs", tables_dir)
        rows = read_result_table(tables_dir, "class_epochs").to_pylist()
        assert len({(row["run"], row["epoch"], row["class_id"]) for row in rows}) == len(rows) == NUM_RUNS * 2 * 3
