"""What is left of a job that is interrupted."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from longtail.spark_jobs.frames.writing import write_parquet


def test_no_task_writes_any_more_when_a_write_was_interrupted(spark: SparkSession, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def slowly(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        started.touch()
        for part in parts:
            time.sleep(2)
            yield part

    def interrupt() -> None:
        while not started.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    rows = spark.range(8).repartition(8).mapInPandas(slowly, "id long")
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        write_parquet(rows, tmp_path / "table")
    thread.join()
    shutil.rmtree(tmp_path / "table", ignore_errors=True)
    time.sleep(3)
    assert not (tmp_path / "table").exists()
