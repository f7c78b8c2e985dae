"""The pipeline on a real S3 server and on a real HDFS cluster: nothing of a run is on the local disk."""

import os
import re
import signal
import subprocess
import sys
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
    assert re.search(r"^base: accuracy .*^semi: accuracy ", pipeline, re.DOTALL | re.MULTILINE)

    monitor = output_of([*LONGTAIL, "monitor", "--once", "--runs_dir", f"{store.url}/runs"], store, tmp_path)
    assert f"tables: {store.url}/runs/analytics" in monitor
    listed = output_of([*LONGTAIL, "runs", "list", "--runs_dir", f"{store.url}/runs"], store, tmp_path)
    assert listed.count("finished") == 2

    run = next(line.split()[0] for line in listed.splitlines() if "finished" in line)
    for action in ("archive", "delete", "restore"):
        output_of([*LONGTAIL, "runs", action, run, "--runs_dir", f"{store.url}/runs"], store, tmp_path)
    assert output_of([*LONGTAIL, "runs", "list", "--runs_dir", f"{store.url}/runs"], store, tmp_path) == listed
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


def test_a_training_that_is_killed_goes_on_from_its_checkpoint_in_the_store(store: Store, tmp_path: Path) -> None:
    prepared = output_of([*LONGTAIL, "prepare", "--data_dir", f"{store.url}/sets"], store, tmp_path)
    (set_dir,) = [line.removeprefix("prepared set: ") for line in prepared.splitlines() if "prepared set: " in line]
    train = [
        sys.executable, "-m", "longtail.training", "train", "--set_dir", set_dir, "--runs_dir", f"{store.url}/killed",
        "--epochs", "20",
    ]  # fmt: skip
    process = started(train, store, tmp_path)
    while not names_of(f"{store.url}/killed", "ckpt.pth.tar", store, tmp_path):
        assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, signal.SIGKILL)  # a later checkpoint may be on its way
    process.communicate()
    assert not names_of(f"{store.url}/killed", "result.json", store, tmp_path)

    output_of(train, store, tmp_path)
    assert names_of(f"{store.url}/killed", "00?.json", store, tmp_path) == ["001.json", "002.json"]
    assert names_of(f"{store.url}/killed", "result.json", store, tmp_path) == ["result.json"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


def names_of(url: str, pattern: str, store: Store, directory: Path) -> list[str]:
    """Names of the files below a directory of the store, as a process of Longtail sees them."""
    code = "import sys; from longtail.conf.base.locations import location; print(*sorted(p.name for p in location("
    code += "sys.argv[1]).rglob(sys.argv[2])))"
    return output_of([sys.executable, "-c", code, url, pattern], store, directory).split()
