"""Events through a real Kafka broker: `longtail relay` to a topic; monitor, dashboard and the scores from it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.streaming.events.schema import ConfusionEvent, RunEvent
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.tables.reading import read_result_table
from tests.analytics import assert_tables_are_those_of_all_lines
from tests.broker import Broker
from tests.conftest import REPOSITORY, SCRIPTS
from tests.events import an_event, class_event

PATIENCE_SECONDS = 420  # a loaded machine takes minutes to start three processes


def write_epochs(events_dir: Path, *epochs: int) -> None:
    writer = EventWriter(events_dir, run="base", attempt=1)
    for epoch in epochs:
        times = {"epoch": epoch, "num_epochs": 4}
        classes = [class_event(**times, class_id=c, correct=epoch % 5) for c in range(3)]
        writer.write_epoch(epoch, [*classes, an_event(ConfusionEvent, epoch=epoch), an_event(RunEvent, **times)])


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """For tests with topics of their own."""
    with Broker(tmp_path_factory.mktemp("broker") / "kafka") as running:
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
        while sorted(read_result_table(tables_dir, "epochs")["epoch"].to_pylist()) != epochs:
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
    assert read_result_table(tables_dir, "quarantine")["line"].to_pylist() == ["not JSON"]
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)


@pytest.mark.long
def test_scores_of_class_events_come_out_of_another_topic_as_they_go_in(broker: Broker, tmp_path: Path) -> None:
    """In real time, then in micro-batches from where that was stopped. Of 4 images 3 and of 5 guesses 3 are right."""
    command = [sys.executable, "-m", "tests.score_process", broker.address, str(tmp_path / "state")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {(row["run"], row["epoch"]): row for row in map(json.loads, done.stdout.splitlines())}
    assert sorted(found) == [("base", 1), ("base", 2), ("semi", 1)]
    row = found["base", 1]
    assert (row["accuracy"], row["precision"], row["f1"]) == (3 / 4, 3 / 5, 6 / 9)
    assert (row["mean_confidence"], row["calibration_gap"]) == (3 / 4, 0.0)
    assert found["base", 2]["accuracy"] == 1 / 4
    assert "accuracy" not in found["semi", 1], "of no image there is no accuracy"


@pytest.mark.long
def test_brokers_that_ask_for_passwords_over_tls_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.secured_process", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    said = list(map(json.loads, done.stdout.splitlines()))
    relay, monitor, of_other_topic, of_files, anew_from_files, anew_from_kafka, page, *refused = said

    assert (relay["status"], relay["out"].startswith("sent: ")) == (0, True), relay
    (waiting,) = relay["err"].splitlines()
    assert waiting.startswith("waiting for the topic longtail-events, which is not there")
    for one in (monitor, anew_from_files, anew_from_kafka):
        assert (one["status"], one["err"]) == (0, ""), one
    assert (page["status"], page["err"]) == (130, "longtail dashboard: interrupted\n"), page
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["figures"]["accuracy_map"]["data"][0]["x"] == [1]
    tables_dir = tmp_path / "runs" / "analytics"
    assert sorted(read_result_table(tables_dir, "epochs")["run"].to_pylist()) == ["after", "base"]
    quarantine = read_result_table(tables_dir, "quarantine").to_pylist()
    assert {row["reason"] for row in quarantine} >= {"a line too long for Kafka"}
    too_long = [row["line"] for row in quarantine if row["reason"] == "a line too long for Kafka"]
    beginning = 'a line too long for Kafka: 250026 bytes, and the topic takes 199488: {"kind": "class", "run": "xxx'
    assert {line[: len(beginning)] for line in too_long} == {beginning}

    expected = [
        "the topic longtail-events of the Kafka cluster MkU3OEVBNTcwNTJENDM2Qg, not on the topic other of the Kafka",
        "the topic longtail-events of the Kafka cluster MkU3OEVBNTcwNTJENDM2Qg, not on event files: --new_checkpoint",
        "do not trust each other: Authentication failed: Invalid username or password",
        "--kafka_option ssl.truststore.certificates: the environment variable EMPTY is not set",
        "Kafka has no setting security.protocl (did you mean security.protocol?)",
        "do not work: Invalid value FTP for configuration security.protocol",
        "is security.protocol=PLAINTEXT theirs",
    ]
    for one, message in zip((of_other_topic, of_files, *refused), expected, strict=True):
        (line,) = one["err"].splitlines()
        assert (one["status"], one["out"]) == (2, ""), one
        # Kafka itself would try for minutes; of a job's own limits the longest is 5 s, on a machine that is not busy.
        assert message in line and one["seconds"] < 120

    assert "hunter2" not in "".join(one["out"] + one["err"] for one in said) + done.stderr
    plans = (tmp_path / "plans.txt").read_text()
    assert "kafka.bootstrap.servers" in plans and "redacted" in plans and "hunter2" not in plans
    kept = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "plain.jaas"]
    assert len(kept) > 10 and not [file for file in kept if b"hunter2" in file.read_bytes()]
