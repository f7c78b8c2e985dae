"""Event files that wait for a live query are read before Spark is started (streaming/live/waiting.py)."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.archive import archive_run
from longtail.streaming.event_files import reading
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.events.schema import Event, RunEvent, event_line
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live import batches, waiting
from longtail.streaming.live.query import CHECKPOINT_DIRECTORY, start_live_query
from longtail.streaming.live.waiting import read_waiting_files
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.progress import read_progress
from longtail.streaming.tables.reading import read_result_table
from tests.analytics import assert_tables_are_those_of_all_events
from tests.events import an_event, class_event


def write_run(events_dir: Path, run: str) -> list[Event]:
    writer = EventWriter(events_dir, run=run, attempt=1)
    started = an_event(RunEvent, run=run, state="started", epoch=0)
    writer.write_run(started)
    epochs = [[class_event(run=run, epoch=epoch, class_id=c) for c in (0, 1)] for epoch in (1, 2)]
    for epoch, events in enumerate(epochs, start=1):
        writer.write_epoch(epoch, events)
    return [started, *sum(epochs, [])]


def read_all(runs_dir: Path, updates: list[list[str]], *, killed_after: int | None = None) -> None:
    def on_update(runs: list[str]) -> None:
        updates.append(runs)
        if len(updates) == killed_after:
            raise KeyboardInterrupt

    read_waiting_files(runs_dir, runs_dir / "analytics", read_alert_rules(), on_update=on_update)


def test_what_needs_no_spark_is_read_before_it_starts_and_all_counts_once_over_a_kill(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (batches, waiting):
        monkeypatch.setattr(module, "FEW_FILES", 2)
    monkeypatch.setattr(reading, "MAX_TOGETHER", 1)
    monkeypatch.setattr(reading, "PIECE_BYTES", 700)  # more than the longest line
    events_dir, tables_dir = tmp_path / "events", tmp_path / "analytics"
    events = [event for run in ("archived", "base", "other") for event in write_run(events_dir, run)]
    archive_run(events_dir, "archived")
    # The second part of a file has a line that is none, the third one that only Spark reads.
    events += [class_event(run="foreign", class_id=c) for c in (0, 1)]
    first, third = map(event_line, events[-2:])
    (events_dir / "foreign.jsonl").write_text(f"{first}\n{'x' * 600}\n{third.replace(', ', ' , ')}\n")
    updates: list[list[str]] = []

    with pytest.raises(KeyboardInterrupt):
        read_all(tmp_path, updates, killed_after=3)
    assert read_progress(tables_dir)
    read_all(tmp_path, updates)

    assert list_runs(tables_dir) == ["archived", "base", "foreign", "other"] and read_progress(tables_dir) is None
    assert {*sum(updates, [])} == {*list_runs(tables_dir)}
    assert NewFiles(events_dir, tables_dir / CHECKPOINT_DIRECTORY).look() == ["foreign.jsonl"]
    start_live_query(spark, events_dir, tables_dir=tables_dir, trigger=None, runs_dir=tmp_path).awaitTermination()
    assert_tables_are_those_of_all_events(tables_dir, events)
    assert read_result_table(tables_dir, "quarantine")["line"].to_pylist() == ["x" * 600]


def test_few_files_are_read_before_spark_starts_too_and_nothing_is_said(tmp_path: Path) -> None:
    events, tables_dir = write_run(tmp_path / "events", "base"), tmp_path / "analytics"
    updates: list[list[str]] = []
    progress: list[str | None] = []

    def on_update(runs: list[str]) -> None:
        updates.append(runs)
        progress.append(read_progress(tables_dir))

    for _ in range(2):  # the lock is given back
        read_waiting_files(tmp_path, tables_dir, read_alert_rules(), on_update=on_update)
    assert sum(updates, []) == ["base"] and not any(progress)
    assert_tables_are_those_of_all_events(tables_dir, events)
