"""What is left of a job that is interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from longtail.spark_jobs.frames.writing import write_parquet
from tests.cluster import MARK, marked_processes, wait_until_gone


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


def test_no_java_process_stays_when_its_start_was_interrupted(tmp_path: Path) -> None:
    code = (
        "from longtail.conf.options.base import SparkJobOptions\n"
        "from longtail.spark_jobs.cluster.session import spark_session\n"
        "spark_session('test', SparkJobOptions(master='local[1]'))"
    )
    environment = {**os.environ, MARK: str(tmp_path), "TMPDIR": str(tmp_path)}
    starting = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    while not any(b"org.apache.spark" in _command(pid) for pid in marked_processes(str(tmp_path))):
        assert starting.poll() is None
        time.sleep(0.05)
    starting.send_signal(signal.SIGINT)
    _, error = starting.communicate(timeout=100)
    assert error.rstrip().endswith("KeyboardInterrupt")
    wait_until_gone(str(tmp_path))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return b""
