"""Events about the end of a run (training/run_events.py): written once, and only if the run had started."""

import json
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.options.training import TrainOptions
from longtail.streaming.events.schema import ClassEvent, StepEvent
from longtail.streaming.events.writer import EventWriter
from longtail.training.run_events import report_failure, run_event
from tests.events import an_event
from tests.tiny_set import tiny_options

OPTIONS = tiny_options(TrainOptions, epochs=7)
OF_RUN = {"run": "base", "attempt": 2}


def fail(events_dir: Path, error: BaseException) -> None:
    writer = EventWriter(events_dir, **OF_RUN)
    with pytest.raises(type(error)), report_failure(writer, OPTIONS, **OF_RUN, describe=lambda e: f"because of {e}"):
        raise error


def failures(events_dir: Path) -> list[dict[str, Any]]:
    files = (file for state in ("failed", "interrupted") for file in events_dir.glob(f"*-{state}.jsonl"))
    return [json.loads(file.read_text()) for file in files]


def start(events_dir: Path, *, epoch: int) -> EventWriter:
    writer = EventWriter(events_dir, **OF_RUN)
    writer.write_run(run_event("started", OPTIONS, **OF_RUN, phase="train", epoch=epoch))
    return writer


def test_a_failure_event_has_the_reason_and_the_options(tmp_path: Path) -> None:
    start(tmp_path, epoch=3)

    fail(tmp_path, RuntimeError("no memory"))
    fail(tmp_path, RuntimeError("the driver's own words for the same"))

    (event,) = failures(tmp_path)
    assert event["message"] == "because of no memory" and event["epoch"] == 3
    assert (event["state"], event["run"], event["attempt"], event["phase"]) == ("failed", "base", 2, "train")
    assert event["num_epochs"] == 7 and json.loads(event["configuration"])["learning_rate"] == 0.05


def test_ctrl_c_is_an_interruption_after_the_last_epoch_and_no_failure(tmp_path: Path) -> None:
    writer = start(tmp_path, epoch=2)
    for epoch in (3, 4):
        writer.write_epoch(epoch, [an_event(ClassEvent, **OF_RUN, epoch=epoch, num_epochs=7)])
    writer.write_step(an_event(StepEvent, **OF_RUN, epoch=5))

    fail(tmp_path, KeyboardInterrupt())
    fail(tmp_path, RuntimeError("connection closed by peer"))
    fail(tmp_path, KeyboardInterrupt())

    (event,) = failures(tmp_path)
    assert (event["state"], event["epoch"], event["message"]) == ("interrupted", 4, "")


def test_an_interruption_is_reported_even_if_a_rank_failed_because_of_it(tmp_path: Path) -> None:
    start(tmp_path, epoch=2)

    fail(tmp_path, RuntimeError("connection closed by peer"))
    fail(tmp_path, KeyboardInterrupt())

    assert [event["state"] for event in failures(tmp_path)] == ["failed", "interrupted"]


def test_bad_input_before_the_start_writes_no_event(tmp_path: Path) -> None:
    fail(tmp_path / "events", ValueError("bad input"))

    assert list(tmp_path.iterdir()) == []


def test_success_writes_no_failure_event(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, **OF_RUN)
    writer.write_run(run_event("started", OPTIONS, **OF_RUN, phase="train", epoch=0))
    with report_failure(writer, OPTIONS, **OF_RUN, describe=str):
        pass

    assert failures(tmp_path) == []
