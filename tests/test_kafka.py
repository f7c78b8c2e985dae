"""Events through a real Kafka broker: `longtail relay` to a topic, `longtail monitor --source kafka` from it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from streaming.events import ConfusionEvent, RunEvent
from streaming.result_tables import read_table
from streaming.writer import EventWriter
from tests.analytics import assert_tables_are_those_of_all_lines
from tests.broker import Broker
from tests.conftest import SCRIPTS
from tests.events import an_event, class_event

PATIENCE_SECONDS = 420  # a loaded machine takes minutes to start three processes


def write_epochs(events_dir: Path, *epochs: int) -> None:
    writer = EventWriter(events_dir, run="base", attempt=1)
    for epoch in epochs:
        classes = [class_event(epoch=epoch, class_id=c, correct=epoch % 5) for c in range(3)]
        writer.write_epoch(epoch, [*classes, an_event(ConfusionEvent, epoch=epoch), an_event(RunEvent, epoch=epoch)])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`longtail ARGS` in the background; interrupted at the end, as with Ctrl-C."""
    processes = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        output = (tmp_path / f"output{len(processes)}.txt").open("w")
        processes.append(
            subprocess.Popen([SCRIPTS / "longtail", *map(str, arguments)], cwd=tmp_path, stdout=output, stderr=output)
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.long
def test_events_come_through_a_broker_that_stops_and_starts(
    spark: SparkSession, broker: Broker, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    events_dir, tables_dir = tmp_path / "runs" / "events", tmp_path / "runs" / "analytics"
    to_kafka = ["--bootstrap_servers", broker.address, "--trigger", "100 milliseconds"]

    def wait_for(epochs: list[int], *alive: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sorted(read_table(tables_dir, "epochs")["epoch"].to_pylist()) != epochs:
            assert time.monotonic() < deadline, "the epochs did not come"
            said = [file.read_text()[-2000:] for file in sorted(tmp_path.glob("output*.txt"))]
            assert all(process.poll() is None for process in alive), said
            time.sleep(0.2)

    write_epochs(events_dir, 1, 2)
    (events_dir / "broken.jsonl").write_text("not JSON\n")
    relay = started("relay", *to_kafka)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list((tmp_path / "runs" / "relay").glob("*/commits/0")):  # the topic is there
        assert relay.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    monitor = started("monitor", "--source", "kafka", *to_kafka)
    wait_for([1, 2], relay, monitor)

    broker.stop()
    write_epochs(events_dir, 3)
    time.sleep(5)
    broker.start()
    write_epochs(events_dir, 4)

    wait_for([1, 2, 3, 4], relay, monitor)
    assert read_table(tables_dir, "quarantine")["line"].to_pylist() == ["not JSON"]
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)
