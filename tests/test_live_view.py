"""The live view (streaming/live.py) over event files that appear, repeat, break or hide while it runs."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streaming.events import ClassEvent, spark_ddl
from streaming.live import LiveTables, LiveView, read_event_stream, start_live_query
from streaming.writer import EventWriter
from tests.events import class_event

TRIGGER = "100 milliseconds"
PATIENCE_SECONDS = 180  # a loaded machine takes long for a first batch


def write_epoch(events_dir: Path, epoch: int, *, correct: int, attempt: int = 1, run: str = "base") -> None:
    event = class_event(run=run, attempt=attempt, epoch=epoch, correct=correct)
    EventWriter(events_dir, run=run, attempt=attempt).write_epoch(epoch, [event])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what the live view should show did not come"
        time.sleep(0.05)


@pytest.fixture
def events_dir(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def live(spark: SparkSession, tmp_path: Path, events_dir: Path):
    """Start the view and stop it at the end; all starts of a test share the state."""

    @contextmanager
    def start() -> Iterator[LiveView]:
        view = LiveView()
        query = start_live_query(
            spark, events_dir, on_tables=view.update, state_dir=tmp_path / "state", trigger=TRIGGER
        )
        try:
            yield view
            assert query.exception() is None
        finally:
            query.stop()

    return start


@pytest.fixture
def view_once(spark: SparkSession, tmp_path: Path, events_dir: Path) -> Callable[[], list[LiveTables]]:
    """Process what is there and end; the tables of every micro-batch."""

    def run() -> list[LiveTables]:
        seen: list[LiveTables] = []
        query = start_live_query(spark, events_dir, on_tables=seen.append, state_dir=tmp_path / "state", trigger=None)
        query.awaitTermination()
        return seen

    return run


def accuracies(rows: list[dict[str, Any]]) -> list[float | None]:
    return [row["accuracy"] for row in rows]


def test_the_stream_has_the_fields_of_the_event_class_in_its_order(spark: SparkSession, events_dir: Path) -> None:
    spark_type = {int: "bigint", float: "double", str: "string"}
    expected = [(field.name, spark_type[field.type]) for field in dataclasses.fields(ClassEvent)]

    assert read_event_stream(spark, events_dir).dtypes == expected
    assert [column.split() for column in spark_ddl().lower().split(", ")] == [list(pair) for pair in expected]


def test_what_an_event_holds_arrives_unchanged(spark: SparkSession, events_dir: Path) -> None:
    event = class_event(class_name='naïve "quoted"\n名前', loss_sum=0.1 + 0.2, emitted_at=1_700_000_000.123456)
    EventWriter(events_dir, run="base", attempt=1).write_epoch(1, [event])

    (row,) = spark.read.schema(spark_ddl()).json(str(events_dir)).collect()

    assert row.asDict() == dataclasses.asdict(event)


def test_epochs_show_up_as_they_are_written(live, events_dir: Path) -> None:
    with live() as view:  # started before there is any event
        assert view.per_class == []
        write_epoch(events_dir, 1, correct=1)
        wait_until(lambda: accuracies(view.per_class) == [1 / 4])
        write_epoch(events_dir, 2, correct=3)
        wait_until(lambda: accuracies(view.per_class) == [3 / 4])

        assert view.per_class[0]["change"] == 1 / 2
        assert accuracies(view.epochs) == [1 / 4, 3 / 4]


def test_a_restart_goes_on_and_gives_the_complete_tables(live, events_dir: Path) -> None:
    write_epoch(events_dir, 1, correct=1)
    write_epoch(events_dir, 2, correct=4)
    with live() as view:
        wait_until(lambda: accuracies(view.epochs) == [1 / 4, 1])
    for file in events_dir.iterdir():
        file.unlink()  # what was read is known from the state, not by reading it again
    write_epoch(events_dir, 2, correct=2, attempt=2)

    with live() as view:
        wait_until(lambda: accuracies(view.epochs) == [1 / 4, 2 / 4])

        assert [(row["change"], row["best_accuracy"]) for row in view.per_class] == [(1 / 4, 2 / 4)]


def test_a_single_pass_ends_and_reads_only_what_is_new(view_once, events_dir: Path) -> None:
    write_epoch(events_dir, 1, correct=1)
    write_epoch(events_dir, 1, correct=2, run="semi")

    assert accuracies(view_once()[-1].per_class.to_pylist()) == [1 / 4, 2 / 4]
    assert view_once() == []

    write_epoch(events_dir, 2, correct=3)
    (tables,) = view_once()

    assert accuracies(tables.per_class.to_pylist()) == [3 / 4, 2 / 4]
    assert accuracies(tables.epochs.to_pylist()) == [1 / 4, 3 / 4, 2 / 4]


def test_without_any_event_there_is_nothing_to_show(view_once, events_dir: Path) -> None:
    assert view_once() == []
    assert events_dir.is_dir()


def test_a_hidden_temporary_file_is_not_read(view_once, events_dir: Path) -> None:
    write_epoch(events_dir, 1, correct=1)
    (written,) = events_dir.iterdir()
    half = events_dir / f".{written.name}.0123456789abcdef"
    half.write_text(written.read_text().replace('"epoch": 1', '"epoch": 2'))

    assert accuracies(view_once()[-1].epochs.to_pylist()) == [1 / 4]

    half.rename(events_dir / "base-attempt001-epoch00002.jsonl")  # as the writer does when the file is whole
    assert accuracies(view_once()[-1].epochs.to_pylist()) == [1 / 4, 1 / 4]


def test_lines_that_are_no_event_neither_stop_the_view_nor_show_up(live, events_dir: Path) -> None:
    write_epoch(events_dir, 1, correct=1)
    (written,) = events_dir.iterdir()
    line = written.read_text().strip()
    other_type = line.replace('"class_id": 0', '"class_id": 1').replace('"support": 4', '"support": "many"')
    assert other_type != line
    cut_short = line.replace('"class_id": 0', '"class_id": 2')[:-40]
    broken = [other_type, cut_short, "not JSON", "", "null", "[1, 2]", '"text"', '{"hello": 1}', "{}"]
    (events_dir / "broken.jsonl").write_text("\n".join(broken))
    (events_dir / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\n\x80")
    (events_dir / "empty.jsonl").touch()

    with live() as view:
        wait_until(lambda: accuracies(view.per_class) == [1 / 4])
        write_epoch(events_dir, 2, correct=3)
        wait_until(lambda: accuracies(view.epochs) == [1 / 4, 3 / 4])

        assert [row["class_id"] for row in view.per_class] == [0]


def test_a_good_line_between_broken_ones_counts(view_once, events_dir: Path) -> None:
    write_epoch(events_dir, 1, correct=1)
    (written,) = events_dir.iterdir()
    written.write_text(f"not JSON\n{written.read_text()}{{half")

    assert accuracies(view_once()[-1].per_class.to_pylist()) == [1 / 4]
