"""The tables of the live query are those of all events, whatever befalls: order, repetition, bad lines, SIGKILL."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from longtail.conf.base.files import write_text_atomically
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.events.schema import (
    Event,
    PseudoLabelEvent,
    event_line,
)
from longtail.streaming.live import run_update
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.live.query import OWN_SETTINGS
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import BY_EPOCH, TABLES
from tests.analytics import (
    assert_delta_tables_have_the_same_rows,
    assert_tables_are_those_of_all_lines,
    rounded,
)
from tests.conftest import REPOSITORY
from tests.events import an_event, batch_tables, line_frame
from tests.histories import events_of, histories
from tests.live_process import keep_tables
from tests.plain_tables import plain_tables

NUM_KILLS = int(os.environ.get("LONGTAIL_KILLS", "3"))
"""Each takes the start of a process: the tests of every change kill less often than one may, once at each moment."""
BATCH_SECONDS = 300
"""A first batch takes some 6 seconds, and this on a machine with many times as much to do."""
BAD_LINES = ["not JSON", '{"kind": "class", ', '{"format_version": 1, "kind": "class"}', "[]"]


ALL = [
    *events_of("base", epochs=3, seed=100, ends=("failed",)),
    *events_of("base", epochs=2, seed=50, attempt=2, num_classes=2),
    *events_of("semi", epochs=7, seed=499, eval_every=3, ends=("finished",)),
    *(an_event(PseudoLabelEvent, class_id=c, pseudo_label_count=40 - 10 * c) for c in range(3)),
    *(an_event(PseudoLabelEvent, class_id=c, pseudo_label_count=30, emitted_at=2000.0) for c in range(2)),
]
LINES = [*map(event_line, ALL), *BAD_LINES]


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> SparkSession:
    own = spark.newSession()
    for key, value in OWN_SETTINGS.items():
        own.conf.set(key, value)
    return own


@pytest.fixture(scope="module")
def expected(session: SparkSession) -> dict[str, list[tuple]]:
    whole = batch_tables(session, LINES, read_alert_rules())
    return {name: rounded(table.to_pylist(), columns_of(name)) for name, table in whole.items()}


SHORT_RULES = AlertRules.model_validate(
    {
        **read_alert_rules().model_dump(),
        "tail_falling": {"epochs": 1},
        "gap_widening": {"epochs": 1},
        "plateau": {"epochs": 2, "gain": 0.5},
    }
)
"""Alerts that look at few earlier epochs, which are in several segments."""


def columns_of(name: str) -> list[str]:
    return [column for column in TABLES[name].names if column != "source"]


def assert_as_defined(tables: dict[str, list[dict[str, Any]]], events: list[Event]) -> None:
    """Tables of all events at once are what plain Python makes of their definitions."""
    for name, rows in plain_tables(events).items():
        columns = [column for column in columns_of(name) if rows and column in rows[0]]
        assert rounded(tables[name], columns) == rounded(rows, columns), name


@pytest.mark.long
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=histories(), data=st.data())
def test_any_order_repetition_and_cutting_into_batches_gives_the_same_tables(
    session: SparkSession, tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    written = [*map(event_line, events), *BAD_LINES]
    order = data.draw(st.permutations(range(len(written))))
    repeated = data.draw(st.lists(st.integers(0, len(written) - 1), max_size=30))
    places = [*(order if data.draw(st.booleans()) else range(len(written))), *repeated]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(places)), max_size=4)))
    again = data.draw(st.integers(0, len(cuts)))
    tables_dir = tmp_path_factory.mktemp("tables")
    # Few rows per segment, so that a run has many.
    segment_rows = data.draw(st.sampled_from([1, 12, run_update.SEGMENT_ROWS]))
    segment_epochs = data.draw(st.sampled_from([{"epochs": 1, "steps": 1}, run_update.SEGMENT_EPOCHS]))
    keeper = TableKeeper(session, tables_dir, SHORT_RULES)
    try:
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(places)], strict=True)):
            if start < end:
                lines = line_frame(session, [written[i] for i in places[start:end]]).toArrow()
                for _ in range(2 if number == again else 1):  # as after a kill between the tables and the checkpoint
                    with (
                        patch.object(run_update, "SEGMENT_ROWS", segment_rows),
                        patch.object(run_update, "SEGMENT_EPOCHS", segment_epochs),
                    ):
                        keeper.update(lines)
    finally:
        keeper.close()

    whole = {n: table.to_pylist() for n, table in batch_tables(session, written, SHORT_RULES).items()}
    assert_as_defined(whole, events)
    assert_tables(tables_dir, {name: rounded(rows, columns_of(name)) for name, rows in whole.items()})


@pytest.mark.long
def test_alerts_about_a_split_that_is_measured_rarely_stay_while_other_epochs_pass(
    session: SparkSession, expected: dict[str, list[tuple]], tmp_path: Path
) -> None:
    events = [event for event in ALL if event.run == "semi"]
    keeper = TableKeeper(session, tmp_path, read_alert_rules())
    try:
        for epoch in range(8):
            lines = [event_line(event) for event in events if getattr(event, "epoch", 0) == epoch]
            with patch.object(run_update, "SEGMENT_ROWS", 1):
                keeper.update(line_frame(session, lines).toArrow())
    finally:
        keeper.close()

    alerts = read_result_table(tmp_path, "alerts", now=0.0).to_pylist()
    assert [(row["split"], row["epoch"], row["rule"]) for row in alerts] == [("test", 6, "class_collapsed")]
    assert_tables(tmp_path, {name: [row for row in expected[name] if row[0] == "semi"] for name in BY_EPOCH})


def assert_tables(tables_dir: Path, expected: dict[str, list[tuple]]) -> None:
    for name, rows in expected.items():
        found = read_result_table(tables_dir, name, now=0.0)
        assert rounded(found.to_pylist(), [c for c in found.column_names if c != "source"]) == rows, name


@pytest.mark.long
def test_scores_are_there_before_the_alerts_and_a_batch_cut_short_between_is_made_whole(
    session: SparkSession, expected: dict[str, list[tuple]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = line_frame(session, LINES).toArrow()
    keeper = TableKeeper(session, tmp_path, read_alert_rules())
    try:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(TableKeeper, "_update_alerts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            keeper.update(lines)
        assert_tables(tmp_path, {name: expected[name] for name in ("runs", "class_epochs", "epochs")})
        assert not read_result_table(tmp_path, "alerts", now=0.0).num_rows and expected["alerts"]
        keeper.update(lines)
    finally:
        keeper.close()
    assert_tables(tmp_path, expected)


def write_storm(events_dir: Path, part: int, draw: random.Random) -> None:
    """Some files of lines in disorder, with repetitions and bad lines; each whole, as the writer leaves them."""
    lines = [event_line(event) for event in events_of(f"run{part % 4}", epochs=3 + part % 3, seed=1000 * part + 100)]
    lines += draw.sample(lines, 5) + BAD_LINES
    lines += [
        lines[0][:50],
        lines[1].replace('"attempt"', '"atempt"'),
        lines[2].replace('_version": 1,', '_version": 7,', 1),
    ]
    draw.shuffle(lines)
    for number in range(3):
        write_text_atomically(events_dir / f"part{part:03d}-{number}.jsonl", "\n".join(lines[number::3]) + "\n")


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + BATCH_SECONDS
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def num_commits(tables_dir: Path) -> int:
    return len([*(tables_dir / "checkpoint" / "commits").glob("[0-9]*")])


def table_files(tables_dir: Path) -> set[tuple[Path, int]]:
    """All files of the tables but the checkpoint's, with their times."""
    found = set()
    for file in tables_dir.rglob("*"):
        with suppress(FileNotFoundError):  # replaced meanwhile
            if "checkpoint" not in file.relative_to(tables_dir).parts and file.is_file():
                found.add((file, file.stat().st_mtime_ns))
    return found


def test_a_query_that_ended_while_its_first_batch_was_recorded_starts_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    events_dir, tables_dir = tmp_path / "events", tmp_path / "tables"
    write_storm(events_dir, 0, random.Random(0))
    (tables_dir / "checkpoint" / "offsets").mkdir(parents=True)
    (tables_dir / "checkpoint" / "offsets" / ".0.d94a0306.tmp").touch()
    (tables_dir / "checkpoint" / "commits").mkdir()
    keep_tables(spark, events_dir, tables_dir, trigger=None).awaitTermination()
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)


@pytest.mark.long
def test_a_query_killed_again_and_again_keeps_the_tables_of_all_events(spark: SparkSession, tmp_path: Path) -> None:
    events_dir, tables_dir = tmp_path / "events", tmp_path / "tables"
    draw = random.Random(0)
    command = [sys.executable, "-m", "tests.live_process", str(events_dir), str(tables_dir)]
    for part in range(NUM_KILLS):
        write_storm(events_dir, part, draw)
        written, committed = table_files(tables_dir), num_commits(tables_dir)
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout and process.stdout.readline() == "started\n"
            # Before a batch, while it writes its tables, and after it, however slow the machine is.
            if part % 3 == 1:
                wait_until(lambda before=written: table_files(tables_dir) != before, process)
            if part % 3 == 2:
                wait_until(lambda before=committed: num_commits(tables_dir) > before, process)
            deadline = time.monotonic() + draw.uniform(0, 1)
            while time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    write_storm(events_dir, NUM_KILLS, draw)
    keep_tables(spark, events_dir, tables_dir, trigger=None).awaitTermination()

    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)
    assert_delta_tables_have_the_same_rows(tables_dir)
    bad = read_result_table(tables_dir, "quarantine")["line"].to_pylist()
    assert len(set(bad)) == len(bad) > len(BAD_LINES) and set(BAD_LINES) < set(bad)
