"""The tables of the live query are those of all events, whatever befalls: order, repetition, bad lines, SIGKILL."""

import os
import random
import signal
import subprocess
import sys
import time
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
    END_STATES,
    ClassEvent,
    ConfusionEvent,
    Event,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
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
from tests.plain_tables import plain_tables

NUM_KILLS = 20
BAD_LINES = ["not JSON", '{"kind": "class", ', '{"format_version": 1, "kind": "class"}', "[]"]


def events_of(
    run: str,
    *,
    epochs: int,
    seed: int,
    attempt: int = 1,
    first_epoch: int = 1,
    eval_every: int = 1,
    num_classes: int = 3,
    num_epochs: int = 9,
    ends: tuple[str, ...] = (),
) -> list[Event]:
    """What an attempt of a training of up to three classes may say, numbers drawn by the seed.

    The held-out splits are measured in every eval_every-th epoch only, the last class is absent from time to time, and
    sometimes a split has no images of the classes.

    ends: the states that it reports in the end, by a clock that is behind
    """
    draw = random.Random(seed)
    of_run = {"run": run, "attempt": attempt}
    of_state = {**of_run, "num_epochs": num_epochs}
    found: list[Event] = [an_event(RunEvent, **of_state, epoch=first_epoch - 1, emitted_at=float(seed))]
    for epoch in range(first_epoch, epochs + 1):
        # The clock jumps back and forth.
        now = seed + draw.choice([-40.0, 0.0, 40.0]) + epoch
        at = {**of_run, "epoch": epoch, "emitted_at": now}
        absent = draw.choice([num_classes - 1, num_classes])
        for split in ("train", "val", "test"):
            if split != "train" and epoch % eval_every:
                continue
            support = draw.choice([20, 20, 20, 0])
            for c, group in list(enumerate(("many", "medium", "few")))[:absent]:
                counts = {
                    "support": support,
                    "correct": draw.randint(0, support),
                    "predicted": draw.choice([0, draw.randint(0, 40)]),
                }
                # Powers of two add up to the same in any order.
                sums = {"loss_sum": draw.randint(0, 64) / 4, "confidence_sum": draw.randint(0, 80) / 4}
                of_class = {"num_epochs": num_epochs, "split": split, "class_id": c, "shot_group": group}
                found.append(an_event(ClassEvent, **at, **of_class, **counts, **sums))
            if split != "train":
                cells = {(draw.randint(0, 2), draw.randint(0, 2)) for _ in range(3)}
                found += [
                    an_event(
                        ConfusionEvent, **at, split=split, true_class=t, predicted_class=p, count=draw.randint(1, 9)
                    )
                    for t, p in sorted(cells)
                ]
        found.append(an_event(StepEvent, **at, step=draw.randint(1, 9), loss=draw.choice([0.5, 0.25, float("nan")])))
        found.append(an_event(RunEvent, **{**at, "num_epochs": num_epochs, "state": "epoch_done"}))
    for number, state in enumerate(ends):
        found.append(an_event(RunEvent, **of_state, state=state, epoch=epochs, emitted_at=seed - 50.0 - number))
    return found


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
    return {name: rounded(table.toArrow().to_pylist(), columns_of(name)) for name, table in whole.items()}


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """The events of two runs: attempts that shrink, other classes, splits measured rarely, clocks that jump, labellings
    that are repeated with fewer classes."""
    events: list[Event] = []
    small = st.integers(1, 3)
    for run in ("base", "semi"):
        for attempt in range(1, 1 + draw(small)):
            epochs = draw(st.integers(1, 6))
            events += events_of(
                run,
                attempt=attempt,
                first_epoch=draw(st.integers(1, epochs)),
                epochs=epochs,
                num_epochs=draw(st.integers(epochs, 9)),
                seed=draw(st.integers(100, 300)),
                eval_every=draw(small),
                num_classes=draw(small),
                ends=tuple(draw(st.permutations(END_STATES))[: draw(st.integers(0, 3))]),
            )
        for labelling in range(draw(st.integers(0, 3))):
            at = {"run": run, "round": draw(st.integers(1, 2)), "emitted_at": 1000.0 + labelling}
            events += [an_event(PseudoLabelEvent, **at, class_id=c, labelled_count=9 - c) for c in range(draw(small))]
    return events


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

    whole = {n: table.toArrow().to_pylist() for n, table in batch_tables(session, written, SHORT_RULES).items()}
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
        assert_tables(
            tmp_path, {name: expected[name] for name in expected if name not in ("alerts", "unlabeled_estimates")}
        )
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


@pytest.mark.long
def test_a_query_killed_twenty_times_keeps_the_tables_of_all_events(spark: SparkSession, tmp_path: Path) -> None:
    events_dir, tables_dir = tmp_path / "events", tmp_path / "tables"
    draw = random.Random(0)
    command = [sys.executable, "-m", "tests.live_process", str(events_dir), str(tables_dir)]
    for part in range(NUM_KILLS):
        write_storm(events_dir, part, draw)
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "started\n"
            # From before the first batch to after some.
            deadline = time.monotonic() + draw.uniform(0, 4)
            while time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
    write_storm(events_dir, NUM_KILLS, draw)
    done = subprocess.run([*command, "once"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)
    assert_delta_tables_have_the_same_rows(tables_dir)
    bad = read_result_table(tables_dir, "quarantine")["line"].to_pylist()
    assert len(set(bad)) == len(bad) > len(BAD_LINES) and set(BAD_LINES) < set(bad)
