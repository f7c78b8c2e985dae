"""Archives event files: those of a run become one Parquet file, from which the same tables can be computed. No Spark.

    archive_run(events_dir, run)       # all event files of a run
    archive_files(events_dir)          # of all runs, and of any other program

An archive has the events as columns, and the lines that were no events in Longtail's own format as they were, each with
the name of its file. Nothing is lost or counted twice if this is killed at any moment, or if the files are being read:
the archive appears as a whole before its files go, and readers deduplicate events.
"""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.files import read_regular_file
from longtail.conf.base.leases import LeaseHeldError, lease
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.event_files.reading import read_event_file
from longtail.streaming.events.archives import MEMBERS, UNREADABLE, archive_rows
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
from longtail.streaming.parsing.columns import (
    ARCHIVE_COLUMNS,
    ARCHIVED_LINE,
    ARCHIVED_SOURCE,
    NotEventColumns,
    checked_table,
)
from longtail.streaming.parsing.fast_lines import read_fast_lines

MAX_ARCHIVE_ROWS = 500_000
"""An archive with half as many rows is not merged with later files any more: each row is rewritten a few times only."""
MAX_ARCHIVE_BYTES = 64 << 20
"""Memory of the rows from which on an archive is written; a file of twice as many stays as it is."""
MAX_FILES_AT_ONCE = 1000


def archive_run(events_dir: Location, run: str) -> int:
    """Archive the event files of a run; the number of files that went into archives.

    Files that bear its name but hold events of others go into an archive of many runs.

    Raises BlockingIOError if another process is archiving in the same directory, and OSError if the directory cannot be
    written.
    """
    return _archive(events_dir, run, sorted(name for name in file_names(events_dir) if run_of_event_file(name) == run))


def archive_files(events_dir: Location) -> int:
    """Archive all event files, by run; the number of files that went into archives. Raises as archive_run does."""
    by_run: dict[str, list[str]] = {}
    for name in sorted(file_names(events_dir)):
        by_run.setdefault(run_of_event_file(name) or "", []).append(name)
    return sum(_archive(events_dir, run, by_run[run]) for run in sorted(by_run))


def _archive(events_dir: Location, run: str, names: Sequence[str]) -> int:
    """run: empty for files that do not bear the name of a run, or that hold events of others"""
    if not names:
        return 0
    with _only_one(events_dir / ARCHIVE_DIRECTORY):
        of_others: list[str] = []
        count = _archive_names(events_dir, run, names, of_others)
        return count + (_archive_names(events_dir, "", of_others, []) if of_others else 0)


def _archive_names(events_dir: Location, run: str, names: Sequence[str], of_others: list[str]) -> int:
    """of_others: gets the names of the files that hold events of other runs"""
    count = 0
    waiting = list(names)
    while waiting:
        old, table = _unfinished_archive(events_dir, run)
        parts, done = [], []
        num_rows, num_bytes = table.num_rows, table.nbytes
        while (
            waiting and len(done) < MAX_FILES_AT_ONCE and num_rows < MAX_ARCHIVE_ROWS and num_bytes < MAX_ARCHIVE_BYTES
        ):
            name = waiting.pop(0)
            try:
                rows = _rows_of(events_dir, name)
            except (OSError, NotEventColumns):
                continue  # it has gone, or what it holds cannot be kept as rows
            if rows.nbytes > 2 * MAX_ARCHIVE_BYTES:
                continue
            if run and not {*pc.drop_null(rows["run"]).unique().to_pylist()} <= {run}:
                of_others.append(name)
                continue
            parts.append(rows)
            done.append(name)
            num_rows += rows.num_rows
            num_bytes += rows.nbytes
        if done:
            # Of a file that an archiving was killed before removing, the archive has the rows already.
            sources = pa.array(map(shown_name, done), pa.string())
            kept = table.filter(pc.invert(pc.is_in(table[ARCHIVED_SOURCE], sources)))
            _write(events_dir, run, pa.concat_tables([kept, *parts]), old, done)
            count += len(done)
    return count


def _write(events_dir: Location, run: str, table: pa.Table, old: str | None, done: Sequence[str]) -> None:
    """Write the archive, and then remove what went into it."""
    members = [*done, *([old] if old else [])]
    number = 1 + max(
        (_number_of(name) for name in archive_names(events_dir) if (run_of_event_file(name) or "") == run), default=0
    )
    file = events_dir / ARCHIVE_DIRECTORY / f"{run}{ARCHIVE_OF}{number:06d}-{uuid.uuid4().hex[:8]}{COLUMNS}"
    # Rows of one kind, and of one file, are alike.
    table = table.sort_by([("kind", "ascending"), (ARCHIVED_SOURCE, "ascending")])
    write_columns(file, table.replace_schema_metadata({MEMBERS: json.dumps(members).encode()}))
    if isinstance(file, Path):  # what a store has taken is kept
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    for name in members:
        (events_dir / name).unlink(missing_ok=True)


def _unfinished_archive(events_dir: Location, run: str) -> tuple[str | None, pa.Table]:
    """The latest archive of a run, if more rows should go into it, and its rows."""
    latest = max(_archives_of(events_dir, run), key=_number_of, default=None)
    with suppress(*UNREADABLE):
        if latest and archive_rows(events_dir / latest) < MAX_ARCHIVE_ROWS // 2:
            table = checked_table(pa.py_buffer(read_regular_file(events_dir / latest))).cast(ARCHIVE_COLUMNS)
            if table.nbytes < MAX_ARCHIVE_BYTES // 2:
                return latest, table
    return None, ARCHIVE_COLUMNS.empty_table()


def _archives_of(events_dir: Location, run: str) -> list[str]:
    return [name for name in archive_names(events_dir) if (run_of_event_file(name) or "") == run]


def _number_of(name: str) -> int:
    match = re.search(rf"{ARCHIVE_OF}([0-9]+)-", name)
    return int(match[1]) if match else 0


def _rows_of(events_dir: Location, name: str) -> pa.Table:
    """The content of an event file as rows of an archive."""
    tables = [ARCHIVE_COLUMNS.empty_table()]
    for piece in read_event_file(events_dir, name):
        events, others = piece.events, piece.lines
        if not name.endswith(COLUMNS):
            events, others = read_fast_lines(others)
        lines = pa.table({ARCHIVED_LINE: others["value"].cast(pa.binary())})
        tables += [
            table.append_column(ARCHIVED_SOURCE, pa.repeat(shown_name(name), table.num_rows))
            for table in (*events.values(), lines)
            if table.num_rows
        ]
    return pa.concat_tables(tables, promote_options="default").select(ARCHIVE_COLUMNS.names)


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
