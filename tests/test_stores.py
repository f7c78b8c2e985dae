"""The pipeline on a real S3 server and on a real HDFS cluster: nothing of a run is on the local disk."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import quick_workers
from tests.stores import Store, hdfs_store, s3_store

pytestmark = pytest.mark.long
TIMEOUT_SECONDS = 900
LONGTAIL = [sys.executable, "-c", "from longtail.spark_jobs.cli import main; main()"]
LIST_CHANGE_AND_LIST = """
import contextlib, io, sys
from longtail.spark_jobs.cli import main
def runs(*words):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["runs", *words, "--runs_dir", sys.argv[1]])
    return said.getvalue()
listed = runs("list")
run = next(line.split()[0] for line in listed.splitlines() if "finished" in line)
for action in ("archive", "delete", "restore"):
    runs(action, run)
print(listed, "== again\\n", runs("list"), sep="", end="")
"""
"""`longtail runs` in one process: each start takes longer than what it does. The URL of the runs is its argument."""


@pytest.fixture(scope="module", params=[s3_store, hdfs_store], ids=["s3", "hdfs"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with request.param(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture(scope="module")
def pipeline(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the pipeline says whose sets and runs are in the store; it leaves nothing in its own directory."""
    directory = tmp_path_factory.mktemp("pipeline")
    places = ["--data_dir", f"{store.url}/sets", "--runs_dir", f"{store.url}/runs"]
    small = ["--epochs", "1", "--num_classes", "4", "--threads", "1"]
    said = output_of([*LONGTAIL, "pipeline", *places, *small], store, directory)
    assert [entry.name for entry in directory.iterdir()] == ["conf"]
    return said


def started(arguments: list[str], store: Store, directory: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, **quick_workers(), **store.process_environment(directory / "conf")}
    return subprocess.Popen(
        arguments, env=environment, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def output_of(arguments: list[str], store: Store, directory: Path) -> str:
    process = started(arguments, store, directory)
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    return output


def test_the_pipeline_and_the_live_tables_are_in_a_store(store: Store, pipeline: str, tmp_path: Path) -> None:
    assert re.search(r"^base: accuracy .*^semi: accuracy ", pipeline, re.DOTALL | re.MULTILINE)

    monitor = output_of([*LONGTAIL, "monitor", "--once", "--runs_dir", f"{store.url}/runs"], store, tmp_path)
    assert f"tables: {store.url}/runs/analytics" in monitor
    process = [sys.executable, "-c", LIST_CHANGE_AND_LIST, f"{store.url}/runs"]
    listed, again = output_of(process, store, tmp_path).split("== again\n")
    assert listed.count("finished") == 2 and again == listed
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


def test_a_training_that_is_killed_goes_on_from_its_checkpoint_in_the_store(
    store: Store, pipeline: str, tmp_path: Path
) -> None:
    (set_name,) = re.findall(r"^== stats\n(\S+)", pipeline, re.MULTILINE)
    set_dir, runs_dir = f"{store.url}/sets/prepared/{set_name}", f"{store.url}/killed"
    train = [
        sys.executable, "-m", "longtail.training", "train", "--set_dir", set_dir, "--runs_dir", runs_dir,
        "--epochs", "20", "--threads", "1",
    ]  # fmt: skip
    with observer(runs_dir, store, tmp_path) as names_below:
        process = started(train, store, tmp_path)
        while "ckpt.pth.tar" not in names_below():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)  # a later checkpoint may be on its way
        process.communicate()
        assert "result.json" not in names_below()

        output_of(train, store, tmp_path)
        names = names_below()
    assert {"001.json", "002.json", "result.json"} <= names and "003.json" not in names
    assert [entry.name for entry in tmp_path.iterdir()] == ["conf"]


NAMES_BELOW = """
import json, sys
from longtail.conf.base.locations import location
below = location(sys.argv[1])
for _ in sys.stdin:
    print(json.dumps([path.name for path in below.rglob("*")]), flush=True)
"""
"""Answers each line with the names of the files below a directory of the store, as a process of Longtail sees them."""


@contextmanager
def observer(url: str, store: Store, directory: Path) -> Iterator[Callable[[], set[str]]]:
    """In a process of its own; call the result for the names of the files below a directory of the store."""
    process = started([sys.executable, "-c", NAMES_BELOW, url], store, directory)
    assert process.stdin is not None and process.stdout is not None
    asked, answers = process.stdin, process.stdout

    def names() -> set[str]:
        print(file=asked, flush=True)
        answer = answers.readline()
        assert answer, process.communicate()[1]
        return set(json.loads(answer))

    try:
        yield names
    finally:
        process.communicate(timeout=TIMEOUT_SECONDS)
