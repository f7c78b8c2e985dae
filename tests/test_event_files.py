"""The files of metric events (streaming/events/writer.py): whole, one an epoch, and none of two writers the same."""

import os
from pathlib import Path

import pytest

from longtail.streaming.event_files import reading
from longtail.streaming.event_files.reading import pieces_together, read_event_files
from longtail.streaming.events.files import newest_runs_first
from longtail.streaming.events.schema import PseudoLabelEvent, RunEvent, StepEvent
from longtail.streaming.events.writer import EventWriter, write_pseudo_label_events
from tests.events import an_event, class_event, events_in


def names(events_dir: Path) -> list[str]:
    return sorted(file.name for file in events_dir.iterdir())


def test_an_epoch_repeats_its_steps_and_their_files_go(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, run="base", attempt=2)
    writer.write_step(an_event(StepEvent, step=5))
    writer.write_step(an_event(StepEvent, step=9))
    assert names(tmp_path) == [f"base-attempt002-epoch00001-step{step:06d}.jsonl" for step in (5, 9)]

    writer.write_epoch(1, [class_event()])

    assert names(tmp_path) == ["base-attempt002-epoch00001.parquet"]
    assert [line["kind"] for line in events_in(tmp_path / "base-attempt002-epoch00001.parquet")] == [
        "class", "step", "step",
    ]  # fmt: skip
    writer.write_epoch(2, [class_event(epoch=2)])
    assert [line["kind"] for line in events_in(tmp_path / "base-attempt002-epoch00002.parquet")] == ["class"]


def test_attempts_and_runs_write_files_of_their_own(tmp_path: Path) -> None:
    for run, attempt in (("base", 1), ("base", 2), ("semi", 1)):
        EventWriter(tmp_path, run=run, attempt=attempt).write_epoch(1, [class_event()])

    assert names(tmp_path) == [
        "base-attempt001-epoch00001.parquet",
        "base-attempt002-epoch00001.parquet",
        "semi-attempt001-epoch00001.parquet",
    ]


def test_a_writer_knows_what_its_attempt_has_said_by_whatever_process(tmp_path: Path) -> None:
    EventWriter(tmp_path, run="base", attempt=1).write_run(an_event(RunEvent))

    other = EventWriter(tmp_path, run="base", attempt=1)
    assert other.has_written("started") and not other.has_written("failed")
    assert not EventWriter(tmp_path, run="base", attempt=2).has_written("started")


def test_two_labellings_by_one_run_leave_two_files(tmp_path: Path) -> None:
    for _ in range(2):
        write_pseudo_label_events(tmp_path, [an_event(PseudoLabelEvent), an_event(PseudoLabelEvent, class_id=1)])

    assert [len(events_in(file)) for file in tmp_path.iterdir()] == [2, 2]


def test_of_many_waiting_runs_the_newest_come_first_each_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_RUNS_TOGETHER", 2)
    for day, run in enumerate(("c", "a", "d", "b")):
        for epoch in (1, 2):
            EventWriter(tmp_path, run=run, attempt=1).write_epoch(epoch, [class_event(run=run, epoch=epoch)])
            os.utime(tmp_path / f"{run}-attempt001-epoch{epoch:05d}.parquet", (0, 86_400 * day + epoch))

    ordered = newest_runs_first(tmp_path, [*names(tmp_path), "gone-attempt001-epoch00001.parquet"])
    groups = pieces_together(read_event_files(tmp_path, ordered))

    assert [[piece.source[0] for piece in group] for group in groups] == [["b", "b", "d", "d"], ["a", "a", "c", "c"]]
    assert ordered[:2] == [f"b-attempt001-epoch{epoch:05d}.parquet" for epoch in (1, 2)]
