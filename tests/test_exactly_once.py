"""The tables of the live query are those of all events, whatever befalls: order, repetition, bad lines, SIGKILL."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from longtail.conf.base.files import write_text_atomically
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.events.schema import (
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
from longtail.streaming.tables.schemas import BY_EPOCH
from tests.analytics import (
    assert_delta_tables_have_the_same_rows,
    assert_tables_are_those_of_all_lines,
    rounded,
)
from tests.conftest import REPOSITORY
from tests.events import an_event, batch_tables, line_frame

NUM_KILLS = 20
BAD_LINES = ["not JSON", '{"kind": "class", ', '{"format_version": 1, "kind": "class"}', "[]"]


def events_of(
    run: str, *, epochs: int, seed: int, attempt: int = 1, eval_every: int = 1, num_classes: int = 3
) -> list[Event]:
    """What a training of three classes may say, numbers drawn by the seed.

    The held-out splits are measured in every eval_every-th epoch only, and the last class is absent from time to time.
    """
    draw = random.Random(seed)
    of_run = {"run": run, "attempt": attempt}
    found: list[Event] = [an_event(RunEvent, **of_run, num_epochs=9, emitted_at=float(seed))]
    for epoch in range(1, epochs + 1):
        # The clock jumps back and forth.
        now = seed + draw.choice([-40.0, 0.0, 40.0]) + epoch
        at = {**of_run, "epoch": epoch, "emitted_at": now}
        absent = draw.choice([num_classes - 1, num_classes])
        for split in ("train", "val", "test"):
            if split != "train" and epoch % eval_every:
                continue
            for c, group in list(enumerate(("many", "medium", "few")))[:absent]:
                counts = {"support": 20, "correct": draw.randint(0, 20), "predicted": draw.randint(0, 40)}
                # Powers of two add up to the same in any order.
                sums = {"loss_sum": draw.randint(0, 64) / 4, "confidence_sum": draw.randint(0, 80) / 4}
                found.append(
                    an_event(
                        ClassEvent, **at, num_epochs=9, split=split, class_id=c, shot_group=group, **counts, **sums
                    )
                )
            if split != "train":
                cells = {(draw.randint(0, 2), draw.randint(0, 2)) for _ in range(3)}
                found += [
                    an_event(
                        ConfusionEvent, **at, split=split, true_class=t, predicted_class=p, count=draw.randint(1, 9)
                    )
                    for t, p in sorted(cells)
                ]
        found.append(an_event(StepEvent, **at, step=draw.randint(1, 9), loss=draw.choice([0.5, 0.25, float("nan")])))
        found.append(an_event(RunEvent, **{**at, "num_epochs": 9, "state": "epoch_done"}))
    if epochs % 2:
        found.append(an_event(RunEvent, **of_run, state="finished", epoch=epochs, num_epochs=9, emitted_at=seed - 50.0))
    return found


ALL = [
    *events_of("base", epochs=3, seed=100),
    *events_of("base", epochs=2, seed=50, attempt=2, num_classes=2),
    *events_of("semi", epochs=7, seed=301, eval_every=3),
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
    return {
        name: rounded(table.toArrow().to_pylist(), [c for c in table.columns if c != "source"])
        for name, table in whole.items()
    }


@pytest.mark.long
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_repetition_and_cutting_into_batches_gives_the_same_tables(
    session: SparkSession,
    expected: dict[str, list[tuple]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    """Of attempts that shrink, classes that come and go, splits that are measured rarely, and clocks that jump."""
    order = data.draw(st.permutations(range(len(LINES))))
    repeated = data.draw(st.lists(st.integers(0, len(ALL) - 1), max_size=30))
    places = [*order, *repeated]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(places)), max_size=6)))
    again = data.draw(st.integers(0, len(cuts)))
    tables_dir = tmp_path_factory.mktemp("tables")
    # Few rows per segment, so that a run has many.
    segment_rows = data.draw(st.sampled_from([1, 12, run_update.SEGMENT_ROWS]))
    keeper = TableKeeper(session, tables_dir, read_alert_rules())
    try:
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(places)], strict=True)):
            if start < end:
                lines = line_frame(session, [LINES[i] for i in places[start:end]]).toArrow()
                for _ in range(2 if number == again else 1):  # as after a kill between the tables and the checkpoint
                    with patch.object(run_update, "SEGMENT_ROWS", segment_rows):
                        keeper.update(lines)
    finally:
        keeper.close()

    assert_tables(tables_dir, expected)


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
    assert read_result_table(tables_dir, "quarantine").num_rows == (NUM_KILLS + 1) * (len(BAD_LINES) + 3)
