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

from longtail.spark_jobs.cluster.cancellation import Call, run_to_their_end
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


def test_an_interruption_ends_all_calls_that_run_at_the_same_time(spark: SparkSession, tmp_path: Path) -> None:
    def call(name: str) -> Call[object]:
        def slowly(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            (tmp_path / name).touch()
            for part in parts:
                time.sleep(60)
                yield part

        return Call(spark.range(1).repartition(1).mapInPandas(slowly, "id long").collect)

    def interrupt() -> None:
        while not (tmp_path / "first").exists() or not (tmp_path / "second").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_to_their_end(spark, call("first"), call("second"))
    assert time.monotonic() - started < 25, "neither its own minute nor that of the other was waited for"
    thread.join()
    assert not spark.sparkContext.statusTracker().getActiveJobsIds()


def test_what_one_of_several_calls_raises_is_raised_once_the_others_have_ended(spark: SparkSession) -> None:
    def fail() -> None:
        raise ValueError("full")

    other = Call(spark.range(7).count)
    with pytest.raises(ValueError, match="full"):
        run_to_their_end(spark, Call(fail), other)
    assert other.value == 7


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
