"""Failure events of a run (training/run_events.py): written once, and only if the run had started."""

import json
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.options.training import TrainOptions
from longtail.streaming.events.writer import EventWriter
from longtail.training.run_events import report_failure, run_event
from tests.tiny_set import tiny_options

OPTIONS = tiny_options(TrainOptions, epochs=7)
OF_RUN = {"run": "base", "attempt": 2}


def fail(events_dir: Path, error: BaseException) -> None:
    writer = EventWriter(events_dir, **OF_RUN)
    with pytest.raises(type(error)), report_failure(writer, OPTIONS, **OF_RUN, describe=lambda e: f"because of {e}"):
        raise error


def failures(events_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in events_dir.glob("*-failed.jsonl")]


@pytest.mark.parametrize("error", [RuntimeError("no memory"), KeyboardInterrupt()])
def test_a_failure_event_has_the_reason_and_the_options(tmp_path: Path, error: BaseException) -> None:
    started = run_event("started", OPTIONS, **OF_RUN, phase="train", epoch=3)
    EventWriter(tmp_path, **OF_RUN).write_run(started)

    fail(tmp_path, error)
    fail(tmp_path, RuntimeError("the driver's own words for the same"))

    (event,) = failures(tmp_path)
    assert event["message"] == f"because of {error}".strip()
    assert (event["state"], event["run"], event["attempt"], event["phase"]) == ("failed", "base", 2, "train")
    assert event["num_epochs"] == 7 and json.loads(event["configuration"])["learning_rate"] == 0.05


def test_bad_input_before_the_start_writes_no_event(tmp_path: Path) -> None:
    fail(tmp_path / "events", ValueError("bad input"))

    assert list(tmp_path.iterdir()) == []


def test_success_writes_no_failure_event(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, **OF_RUN)
    writer.write_run(run_event("started", OPTIONS, **OF_RUN, phase="train", epoch=0))
    with report_failure(writer, OPTIONS, **OF_RUN, describe=str):
        pass

    assert failures(tmp_path) == []
