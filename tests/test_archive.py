"""Archives of event files (streaming/archive.py): the same events, whoever reads when, and killed at any moment."""

import os
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.streaming import archive
from longtail.streaming.archive import archive_files, archive_run
from longtail.streaming.event_files import archive_rows
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.archives import MEMBERS
from longtail.streaming.events.files import (
    ARCHIVE_DIRECTORY,
    archive_names,
    event_files_of,
    file_names,
    run_of_event_file,
)
from longtail.streaming.events.schema import RunEvent, StepEvent, event_line
from longtail.streaming.events.writer import EventWriter, attempts_with_events
from tests.events import an_event, class_event


def write_epoch(events_dir: Path, run: str, epoch: int, attempt: int = 1) -> None:
    events = [class_event(run=run, attempt=attempt, epoch=epoch, num_epochs=999, class_id=c) for c in (0, 1)]
    EventWriter(events_dir, run=run, attempt=attempt).write_epoch(epoch, events)


def content(events_dir: Path, names: list[str] | None = None) -> list[bytes]:
    """All events and lines, sorted, without the order and number in which they are read."""
    pieces = read_event_files(events_dir, names or [*file_names(events_dir), *archive_names(events_dir)])
    lines = {line for piece in pieces for line in piece.as_lines()["value"].cast("binary").to_pylist()}
    return sorted(lines - {b""})


@pytest.fixture
def events_dir(tmp_path: Path) -> Path:
    """Two runs, a file of both, lines that are none, and a file that is none."""
    directory = tmp_path / "events"
    for epoch in (1, 2, 3):
        write_epoch(directory, "base", epoch)
    write_epoch(directory, "base-2", 1)
    writer = EventWriter(directory, run="base", attempt=2)
    started, step = an_event(RunEvent, attempt=2), an_event(StepEvent, attempt=2, epoch=4)
    assert isinstance(started, RunEvent) and isinstance(step, StepEvent)
    writer.write_run(started)
    writer.write_step(step)
    both = [class_event(run=run, epoch=2) for run in ("base", "base-2")]
    (directory / "both.jsonl").write_text("".join(f"{event_line(event)}\n" for event in both))
    (directory / "base-attempt003-other.jsonl").write_text(event_line(class_event(run="other")))
    (directory / "base-attempt004-x.jsonl").write_bytes(b"\xff\xfe no event\r\n\n{}")
    (directory / "base-attempt005-x.parquet").write_bytes(b"no Parquet")
    (directory / "empty.jsonl").touch()
    return directory


def test_the_files_of_a_run_become_one_with_the_same_events(events_dir: Path) -> None:
    before = content(events_dir)

    assert archive_run(events_dir, "base") == 7

    assert content(events_dir) == before
    assert sorted(file_names(events_dir)) == [
        "base-2-attempt001-epoch00001.parquet", "base-attempt005-x.parquet", "both.jsonl", "empty.jsonl",
    ]  # fmt: skip
    assert attempts_with_events(events_dir, "base") == {1, 2}
    assert EventWriter(events_dir, run="base", attempt=2).has_written("started")
    assert not EventWriter(events_dir, run="base", attempt=2).has_written("failed")

    assert archive_files(events_dir) == 3 and content(events_dir) == before
    assert file_names(events_dir) == ["base-attempt005-x.parquet"]
    assert archive_files(events_dir) == 0


def test_later_files_join_the_archive_until_it_is_large(events_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ARCHIVE_ROWS", 20)
    counts = []
    for epoch in range(10, 26):
        write_epoch(events_dir, "long", epoch)
        before = content(events_dir)
        archive_run(events_dir, "long")
        assert content(events_dir) == before
        counts.append(len(event_files_of(events_dir, "long")))
    assert counts == sorted(counts) and counts[-1] == 4  # of ten rows each


def test_many_runs_are_archived_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One listing of the archives, and one reading of lines: compiling its expressions takes long."""
    calls: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **options: calls.append(name) or function(*args, **options))

    counted(archive, "archive_names")
    counted(archive_rows, "read_fast_lines")
    for number in range(30):
        run = f"run{number}"
        write_epoch(tmp_path, run, 1)
        writer = EventWriter(tmp_path, run=run, attempt=1)
        for state in ("started", "finished"):
            started = an_event(RunEvent, run=run, state=state, message="\u00e9")
            assert isinstance(started, RunEvent)
            writer.write_run(started)
    before = content(tmp_path)

    assert archive_files(tmp_path) == 90 and len(archive_names(tmp_path)) == 30 and content(tmp_path) == before
    assert sorted(calls) == ["archive_names", "read_fast_lines"]
    # Each has its own events, and no columns of other kinds.
    for name in archive_names(tmp_path):
        rows = pq.read_table(tmp_path / name)
        run = f"{run_of_event_file(name)}"
        assert {*rows["run"].to_pylist()} == {run} and rows.num_rows == 4
        assert all(source.startswith(f"{run}-attempt001-") for source in rows["source"].to_pylist())
        assert "confidence_sum" in rows.column_names and "true_class" not in rows.column_names


class Killed(BaseException):
    """In the place of a kill."""


@settings(deadline=None, max_examples=12)
@given(kills=st.lists(st.integers(1, 12), max_size=3), data=st.data())
def test_killed_at_any_moment_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], data: st.DataObject
) -> None:
    events_dir = tmp_path_factory.mktemp("killed") / "events"
    for epoch in range(1, 6):
        write_epoch(events_dir, "base", epoch)
    seen: set[bytes] = set()
    new = NewFiles(events_dir)
    for last_action in [*kills, 10**6]:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "unlink", "fsync"):
                patch.setattr(os, name, _until(last_action, getattr(os, name)))
            with suppress(Killed):
                archive_files(events_dir)
        assert len(content(events_dir)) == 10
        if data.draw(st.booleans()):
            seen |= {*content(events_dir, new.look() or ["none"])}
        write_epoch(events_dir, "base", 5)  # once more, by the same name
    assert len(seen | {*content(events_dir, new.look() or ["none"])}) == 10


def _until(last_action: int, action):
    left = [last_action]

    def act(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return action(*arguments, **options)

    return act


def test_only_what_is_new_is_passed_on(events_dir: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    new = NewFiles(events_dir, state)
    first = new.look()
    assert len(first) == 11 and new.look() == []
    new.log(first)
    archive_run(events_dir, "base")
    assert new.look() == []  # all that is in the archive was passed on
    assert NewFiles(events_dir, state).look() == []  # over a restart too
    # Whoever has not seen the files gets the archive.
    assert {f"archive/{file.name}" for file in event_files_of(events_dir, "base") if "@" in file.name} < {
        *NewFiles(events_dir).look()
    }
    # A file that is put back is new, and so is one that bears any date.
    write_epoch(events_dir, "base", 1)
    write_epoch(events_dir, "late", 1)
    for date in (0, 2**33):
        os.utime(events_dir / "late-attempt001-epoch00001.parquet", (date, date))
    assert new.look() == ["base-attempt001-epoch00001.parquet", "late-attempt001-epoch00001.parquet"]


def test_files_that_were_archived_after_they_were_listed_are_read_from_there(events_dir: Path) -> None:
    before = content(events_dir)
    names = file_names(events_dir)
    archive_files(events_dir)
    assert content(events_dir, names) == before
    names = archive_names(events_dir)
    write_epoch(events_dir, "base", 9)
    archive_files(events_dir)
    assert {*before} - {*content(events_dir, [*names, "base-attempt005-x.parquet"])} == set()


def test_a_directory_that_is_moved_or_linked_is_the_same(events_dir: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    new = NewFiles(events_dir, state)
    new.log(new.look())
    moved = events_dir.rename(tmp_path / "moved")
    link = tmp_path / "link"
    link.symlink_to(moved)
    write_epoch(link, "base", 8)
    for directory in (moved, link):
        assert NewFiles(directory, state).look() == ["base-attempt001-epoch00008.parquet"]


@pytest.mark.parametrize("members", [None, b"5", b'["x", []]', b"null", b"[" * 5000, b"\xff"])
def test_an_archive_of_others_that_says_nothing_valid_of_itself_ends_nobody(
    events_dir: Path, members: bytes | None
) -> None:
    attempts = attempts_with_events(events_dir, "base")
    name = f"{ARCHIVE_DIRECTORY}/base@7-1a2b3c4d.parquet"
    (events_dir / ARCHIVE_DIRECTORY).mkdir(exist_ok=True)
    rows = pa.table({"kind": ["run"], "attempt": ["9"], "state": [1], "epoch": [[1]], "source": [["x"]]})
    pq.write_table(rows.replace_schema_metadata({MEMBERS: members} if members else None), events_dir / name)
    found = NewFiles(events_dir)
    found.add(["x"])
    assert name in found.look()
    assert attempts_with_events(events_dir, "base") == attempts
