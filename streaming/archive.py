"""Archives event files: those of a run become one Parquet file, from which the same tables can be computed. No Spark.

    archive_run(events_dir, run)       # all event files of a run
    archive_files(events_dir)          # of all runs, and of any other program

An archive has the events as columns, and the lines that were no events in Longtail's own format as they were, each with
the name of its file. Nothing is lost or counted twice if this is killed at any moment, or if the files are being read:
the archive appears as a whole before its files go, and readers deduplicate events. An archive of all events of a run
also says what a list of runs shows of it (events/archives.py).
"""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.files import read_regular_file
from longtail.conf.base.leases import LeaseHeldError, lease
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.event_files.archive_rows import rows_of_files, without_empty_columns
from longtail.streaming.events.archives import MEMBERS, SUMMARY, UNREADABLE, archive_rows
from longtail.streaming.events.columns import write_columns
from longtail.streaming.events.files import (
    ARCHIVE_DIRECTORY,
    ARCHIVE_OF,
    COLUMNS,
    archive_names,
    file_names,
    run_of_event_file,
    shown_name,
)
from longtail.streaming.kernels.summaries import Summary, run_summaries
from longtail.streaming.parsing.columns import (
    ARCHIVE_COLUMNS,
    ARCHIVED_LINE,
    ARCHIVED_SOURCE,
    checked_events,
    checked_table,
)

MAX_ARCHIVE_ROWS = 500_000
"""An archive with half as many rows is not merged with later files any more: each row is rewritten a few times only."""
MAX_ARCHIVE_BYTES = 64 << 20
"""Memory of the rows from which on an archive is written; a file of twice as many stays as it is."""
MAX_FILES_AT_ONCE = 1000
RUNS_TOGETHER = 50
"""What the archives of so many runs say of them is computed at once, which takes a tenth of the time."""


def archive_run(events_dir: Location, run: str) -> int:
    """Archive the event files of a run; the number of files that went into archives.

    Files that bear its name but hold events of others go into an archive of many runs.

    Raises BlockingIOError if another process is archiving in the same directory, and OSError if the directory cannot be
    written.
    """
    return _archive(
        events_dir, {run: sorted(name for name in file_names(events_dir) if run_of_event_file(name) == run)}
    )


def archive_files(events_dir: Location) -> int:
    """Archive all event files, by run; the number of files that went into archives. Raises as archive_run does."""
    by_run: dict[str, list[str]] = {}
    for name in sorted(file_names(events_dir)):
        by_run.setdefault(run_of_event_file(name) or "", []).append(name)
    return _archive(events_dir, by_run)


def _archive(events_dir: Location, names: Mapping[str, Sequence[str]]) -> int:
    """names: by run, which is empty for files that do not bear the name of a run, or that hold events of others"""
    if not any(names.values()):
        return 0
    with _only_one(events_dir / ARCHIVE_DIRECTORY):
        archives = _Archives(events_dir)
        of_others: list[str] = []
        count = archives.add(names, of_others)
        return count + (archives.add({"": of_others}, []) if of_others else 0)


@dataclass
class _Archive:
    """What goes into one archive of a run.

    old: the archive that it replaces, and old_rows its rows
    names: the files that go into it, and tables the rows of each
    """

    run: str
    old: str | None = None
    old_rows: pa.Table = field(default_factory=ARCHIVE_COLUMNS.empty_table)
    names: list[str] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    _num_rows: int = 0
    _num_bytes: int = 0

    def add(self, name: str, rows: pa.Table) -> None:
        self.names.append(name)
        self.tables.append(rows)
        self._num_rows += rows.num_rows
        self._num_bytes += rows.nbytes

    @property
    def num_bytes(self) -> int:
        return self.old_rows.nbytes + self._num_bytes

    def is_full(self) -> bool:
        return (
            len(self.names) >= MAX_FILES_AT_ONCE
            or self.old_rows.num_rows + self._num_rows >= MAX_ARCHIVE_ROWS
            or self.num_bytes >= MAX_ARCHIVE_BYTES
        )

    def rows(self) -> pa.Table:
        """Rows of one kind, and of one file, are alike and stand together."""
        # Of a file that an archiving was killed before removing, the archive has the rows already.
        sources = pa.array(map(shown_name, self.names), pa.string())
        kept = self.old_rows.filter(pc.invert(pc.is_in(self.old_rows[ARCHIVED_SOURCE], sources)))
        return pa.concat_tables([kept, *self.tables]).sort_by([("kind", "ascending"), (ARCHIVED_SOURCE, "ascending")])


class _Archives:
    """The archives of a directory, for the only process that archives."""

    def __init__(self, events_dir: Location) -> None:
        self._events_dir = events_dir
        self._of_run: dict[str, list[str]] = {}
        for name in archive_names(events_dir):
            self._of_run.setdefault(run_of_event_file(name) or "", []).append(name)

    def add(self, names: Mapping[str, Sequence[str]], of_others: list[str]) -> int:
        """Archive event files, by run; the number of files that went into archives.

        of_others: gets the names of the files that hold events of other runs
        """
        count, waiting, size = 0, list[_Archive](), 0
        for archive in self._collected(names, of_others):
            waiting.append(archive)
            size += archive.num_bytes
            count += len(archive.names)
            if len(waiting) >= RUNS_TOGETHER or size >= MAX_ARCHIVE_BYTES or archive.is_full():
                self._write(waiting)
                waiting, size = [], 0
        self._write(waiting)
        return count

    def _collected(self, names: Mapping[str, Sequence[str]], of_others: list[str]) -> Iterator[_Archive]:
        """Archives to write; a full one before the next of the same run begins."""
        run_of = {name: run for run in sorted(names) for name in names[run]}
        archive: _Archive | None = None
        for name, rows in rows_of_files(self._events_dir, run_of):
            run = run_of[name]
            if rows.nbytes > 2 * MAX_ARCHIVE_BYTES:
                continue
            if run and not {*pc.drop_null(rows["run"]).unique().to_pylist()} <= {run}:
                of_others.append(name)
                continue
            if archive and (archive.run != run or archive.is_full()):
                yield archive
                archive = None
            archive = archive or self._begin(run)
            archive.add(name, rows)
        if archive:
            yield archive

    def _begin(self, run: str) -> _Archive:
        """An archive that replaces the latest one of the run, if more rows should go into that."""
        latest = max(self._of_run.get(run, ()), key=_number_of, default=None)
        with suppress(*UNREADABLE):
            if latest and archive_rows(self._events_dir / latest) < MAX_ARCHIVE_ROWS // 2:
                table = checked_table(pa.py_buffer(read_regular_file(self._events_dir / latest)))
                if table.nbytes < MAX_ARCHIVE_BYTES // 2:
                    return _Archive(run, latest, _with_all_columns(table))
        return _Archive(run)

    def _write(self, archives: Sequence[_Archive]) -> None:
        """Write archives of different runs, and remove what went into each after it."""
        rows = {archive.run: archive.rows() for archive in archives}
        whole = [archive.run for archive in archives if not {*self._of_run.get(archive.run, ())} - {archive.old}]
        summaries = _summaries({run: rows[run] for run in whole if run})
        for archive in archives:
            self._write_one(archive, without_empty_columns(rows[archive.run]), summaries.get(archive.run))

    def _write_one(self, archive: _Archive, rows: pa.Table, summary: Summary | None) -> None:
        members = [*archive.names, *([archive.old] if archive.old else [])]
        of_run = self._of_run.setdefault(archive.run, [])
        number = 1 + max(map(_number_of, of_run), default=0)
        name = f"{ARCHIVE_DIRECTORY}/{archive.run}{ARCHIVE_OF}{number:06d}-{uuid.uuid4().hex[:8]}{COLUMNS}"
        file = self._events_dir / name
        about = {MEMBERS: json.dumps(members).encode()}
        if summary is not None:
            about[SUMMARY] = json.dumps(summary).encode()
        write_columns(file, rows.replace_schema_metadata(about))
        if isinstance(file, Path):  # what a store has taken is kept
            directory = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        for member in members:
            (self._events_dir / member).unlink(missing_ok=True)
        self._of_run[archive.run] = [name, *(other for other in of_run if other != archive.old)]


def _summaries(rows: Mapping[str, pa.Table]) -> dict[str, Summary]:
    """What archives say of their runs, as far as all their rows are surely events. rows: by run"""
    intact = {run: table for run, table in rows.items() if table[ARCHIVED_LINE].null_count == table.num_rows}
    # Whatever is wrong with one: the tables are computed with more care, and without it.
    with suppress(pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError):
        if not intact:
            return {}
        events, others = checked_events(pa.concat_tables(intact.values()).combine_chunks())
        if not others.num_rows:
            return run_summaries(events)
        if len(intact) > 1:
            return {run: summary for run in intact for summary in _summaries({run: intact[run]}).values()}
    return {}


def _with_all_columns(table: pa.Table) -> pa.Table:
    found = pa.concat_tables([ARCHIVE_COLUMNS.empty_table(), table], promote_options="default")
    return found.select(ARCHIVE_COLUMNS.names)


def _number_of(name: str) -> int:
    match = re.search(rf"{ARCHIVE_OF}([0-9]+)-", name)
    return int(match[1]) if match else 0


@contextmanager
def _only_one(directory: Location) -> Iterator[None]:
    if isinstance(directory, StorePath):
        try:
            with lease(directory / "lease", interrupts=True):
                yield
        except LeaseHeldError as error:
            raise BlockingIOError(str(error)) from None
        return
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
