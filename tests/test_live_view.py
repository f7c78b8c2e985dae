"""The live query (streaming/live/query.py) over event files that appear, repeat, break or hide while it runs."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.streaming.event_files import reading
from longtail.streaming.events.files import file_names
from longtail.streaming.events.schema import ConfusionEvent, RunEvent, StepEvent, event_line
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live import archiver
from longtail.streaming.live.archiver import Archiver
from longtail.streaming.live.query import start_live_query
from longtail.streaming.live.starting import has_begun_batch
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.progress import read_progress
from longtail.streaming.tables.reading import read_result_table
from tests.analytics import assert_tables_are_those_of_all_lines
from tests.events import an_event, class_event

TRIGGER = "100 milliseconds"
PATIENCE_SECONDS = 180  # a loaded machine takes long for a first batch


def write_epoch(events_dir: Path, epoch: int, *, correct: int, attempt: int = 1, run: str = "base") -> None:
    told = {"run": run, "attempt": attempt, "epoch": epoch}
    of_training = {**told, "num_epochs": 9}
    events = [
        *(
            class_event(**of_training, split=split, class_id=c, correct=correct)
            for split in ("test", "train")
            for c in (0, 1)
        ),
        an_event(ConfusionEvent, **told, count=correct),
        an_event(RunEvent, **of_training, state="epoch_done"),
    ]
    EventWriter(events_dir, run=run, attempt=attempt).write_epoch(epoch, events)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what the tables should show did not come"
        time.sleep(0.05)


@pytest.fixture
def events_dir(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def tables_dir(tmp_path: Path) -> Path:
    return tmp_path / "tables"


@pytest.fixture
def start(spark: SparkSession, tables_dir: Path, events_dir: Path):
    """Start the query, of which all starts of a test share the tables; stop it at the end."""

    @contextmanager
    def query(trigger: str | None = TRIGGER, changed: list[str] | None = None) -> Iterator[None]:
        running = start_live_query(
            spark,
            events_dir,
            tables_dir=tables_dir,
            trigger=trigger,
            on_update=lambda runs: changed.extend(runs) if changed is not None else None,
        )
        try:
            if trigger is None:
                running.awaitTermination()
            yield
            assert running.exception() is None
        finally:
            running.stop()

    return query


@pytest.fixture
def accuracies(tables_dir: Path) -> Callable[..., list[float]]:
    def of(run: str = "base") -> list[float]:
        rows = read_result_table(tables_dir, "epochs", run).to_pylist()
        return [row["accuracy"] for row in sorted(rows, key=lambda row: row["epoch"]) if row["split"] == "test"]

    return of


@pytest.mark.long
def test_epochs_show_up_as_they_are_written_and_a_restart_goes_on(
    spark: SparkSession, start, accuracies, events_dir: Path, tables_dir: Path
) -> None:
    changed: list[str] = []
    with start(changed=changed):  # started before there is any event
        assert list_runs(tables_dir) == []
        write_epoch(events_dir, 1, correct=1)
        wait_until(lambda: accuracies() == [1 / 4])
        write_epoch(events_dir, 2, correct=3)
        wait_until(lambda: accuracies() == [1 / 4, 3 / 4])
        with pytest.raises(UserError, match="another process is writing the tables"), start():
            pass
    assert set(changed) == {"base"}
    # While nobody reads, an epoch is repeated by a later attempt, and another run begins.
    write_epoch(events_dir, 2, correct=2, attempt=2)
    write_epoch(events_dir, 3, correct=4, attempt=2)
    write_epoch(events_dir, 1, correct=4, run="semi")
    with start(trigger=None):
        assert accuracies() == [1 / 4, 2 / 4, 4 / 4] and accuracies("semi") == [4 / 4]
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)
    with start(trigger=None):  # nothing new
        assert accuracies() == [1 / 4, 2 / 4, 4 / 4]


@pytest.mark.long
def test_a_query_that_is_stopped_ends_the_batch_it_is_in(
    spark: SparkSession, accuracies, events_dir: Path, tables_dir: Path
) -> None:
    in_batch, ended = Event(), []

    def take_a_while(runs: list[str]) -> None:
        if runs:
            in_batch.set()
            time.sleep(1)
            ended.extend(runs)

    write_epoch(events_dir, 1, correct=1)
    query = start_live_query(spark, events_dir, tables_dir=tables_dir, trigger=TRIGGER, on_update=take_a_while)
    assert in_batch.wait(PATIENCE_SECONDS)
    query.stop()

    assert ended == ["base"] and query.exception() is None
    assert accuracies() == [1 / 4]


@pytest.mark.long
def test_late_epochs_change_what_comes_after_them(
    spark: SparkSession, start, accuracies, events_dir: Path, tables_dir: Path
) -> None:
    for epoch, correct in ((4, 2), (2, 3), (1, 4), (3, 1)):
        write_epoch(events_dir, epoch, correct=correct)
        with start(trigger=None):
            pass

    assert accuracies() == [4 / 4, 3 / 4, 1 / 4, 2 / 4]
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)


@pytest.mark.long
def test_broken_lines_go_to_the_quarantine_and_stop_nothing(
    spark: SparkSession,
    start,
    accuracies,
    events_dir: Path,
    tables_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_epoch(events_dir, 1, correct=1)
    line = event_line(class_event(class_id=5))
    broken = ["not JSON", line[:-40], line.replace('"support": 4', '"support": "many"'), "{}", line]
    (events_dir / "broken.jsonl").write_text("\n".join(broken))
    (events_dir / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\n\x80")
    (events_dir / "empty.jsonl").touch()
    (events_dir / ".base-attempt001-epoch00009.jsonl.0123456789abcdef").write_text(line)  # not renamed yet
    with start(trigger=None):
        pass
    write_epoch(events_dir, 2, correct=3)
    EventWriter(events_dir, run="base", attempt=1).write_step(an_event(StepEvent, epoch=3))
    with start(trigger=None):
        pass

    assert accuracies()[1] == 3 / 4
    assert (
        read_result_table(tables_dir, "class_epochs", "base")["class_id"].to_pylist().count(5) == 1
    )  # between broken ones
    bad = read_result_table(tables_dir, "quarantine").to_pylist()
    assert len(bad) == 6
    assert {row["source"].rpartition("/")[2] for row in bad} == {"broken.jsonl", "bytes.jsonl"}
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)

    # All of it can be computed again from archives, without the checkpoint, and wherever the directory is.
    monkeypatch.setattr(archiver, "MAX_FILES", 1)
    Archiver(events_dir).look()
    assert file_names(events_dir) == []
    shutil.rmtree(tables_dir)
    moved = events_dir.rename(events_dir.with_name("moved"))
    events_dir.symlink_to(moved)
    with start(trigger=None):
        pass
    assert_tables_are_those_of_all_lines(spark, tables_dir, events_dir)
    again = read_result_table(tables_dir, "quarantine").to_pylist()
    assert sorted(map(str, again)) == sorted(map(str, bad))


@pytest.mark.long
def test_readers_see_how_far_it_is_with_many_files(
    spark: SparkSession, events_dir: Path, tables_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_TOGETHER", 60)
    for epoch in range(1, 131):
        write_epoch(events_dir, epoch, correct=1)
    seen: list[str | None] = []
    query = start_live_query(
        spark,
        events_dir,
        tables_dir=tables_dir,
        trigger=None,
        on_update=lambda runs: seen.append(read_progress(tables_dir)),
    )
    seen.append(read_progress(tables_dir))
    query.awaitTermination()

    lines = [line for number, line in enumerate(seen) if line and line not in seen[:number]]
    assert lines == [f"read {number} of 130 event files" for number in (0, 60, 120)]
    assert read_progress(tables_dir) is None


def test_after_a_kill_a_query_that_ends_reads_all_that_is_there(
    spark: SparkSession, events_dir: Path, tables_dir: Path
) -> None:
    """And not only the batch that the killed one had begun, which some versions of Spark take for all."""

    def fail(runs: list[str]) -> None:
        if runs:
            raise RuntimeError("as a kill after the update of the tables")

    def once(on_update: Callable[[list[str]], None]) -> None:
        start_live_query(
            spark, events_dir, tables_dir=tables_dir, trigger=None, on_update=on_update
        ).awaitTermination()  # fmt: skip

    write_epoch(events_dir, 1, correct=1)
    with pytest.raises(StreamingQueryException, match="as a kill"):
        once(fail)
    assert has_begun_batch(tables_dir / "checkpoint")
    write_epoch(events_dir, 2, correct=1)

    once(lambda runs: None)
    assert sorted({*read_result_table(tables_dir, "epochs")["epoch"].to_pylist()}) == [1, 2]
    assert not has_begun_batch(tables_dir / "checkpoint")
