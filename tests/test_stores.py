"""The pipeline on a real S3 server and on a real HDFS cluster: nothing of a run is on the local disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import Store, hdfs_store, s3_store

pytestmark = pytest.mark.long
TIMEOUT_SECONDS = 400
LONGTAIL = [sys.executable, "-c", "from longtail.spark_jobs.cli import main; main()"]


@pytest.fixture(scope="module", params=[s3_store, hdfs_store], ids=["s3", "hdfs"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with request.param(tmp_path_factory.mktemp("store")) as started:
        yield started


def started(arguments: list[str], store: Store, directory: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, **store.process_environment(directory / "conf")}
    return subprocess.Popen(
        arguments, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def output_of(arguments: list[str], store: Store, directory: Path) -> str:
    process = started(arguments, store, directory)
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    return output


def test_the_pipeline_and_the_live_tables_are_in_a_store(store: Store, tmp_path: Path) -> None:
    places = ["--data_dir", f"{store.url}/sets", "--runs_dir", f"{store.url}/runs"]
    pipeline = output_of([*LONGTAIL, "pipeline", *places, "--epochs", "1", "--num_classes", "4"], store, tmp_path)
    assert "test accuracy, labels alone (base) and with pseudo-labels (semi)" in pipeline

    monitor = output_of([*LONGTAIL, "monitor", "--once", "--runs_dir", f"{store.url}/runs"], store, tmp_path)
    assert f"tables: {store.url}/runs/analytics" in monitor
    listed = output_of([*LONGTAIL, "runs", "list", "--runs_dir", f"{store.url}/runs"], store, tmp_path)
    assert listed.count("finished") == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


def test_a_training_that_is_killed_goes_on_from_its_checkpoint_in_the_store(store: Store, tmp_path: Path) -> None:
    prepared = output_of([*LONGTAIL, "prepare", "--data_dir", f"{store.url}/sets"], store, tmp_path)
    (set_dir,) = [line.removeprefix("prepared set: ") for line in prepared.splitlines() if "prepared set: " in line]
    train = [
        sys.executable, "-m", "longtail.training", "train", "--set_dir", set_dir, "--runs_dir", f"{store.url}/killed",
        "--epochs", "8",
    ]  # fmt: skip
    process = started(train, store, tmp_path)
    assert process.stdout is not None
    while "epoch 3/8" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    time.sleep(0.3)  # while a checkpoint may be on its way
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    output = output_of(train, store, tmp_path)
    assert "epoch 1/8" not in output and "epoch 8/8" in output
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]
