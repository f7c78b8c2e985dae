"""Reads event files, live and archived, piece by piece. No Spark.

A file that has gone since its name was listed was the file of a step (streaming/events/writer.py), or it is in an
archive now, which is read instead.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from longtail.conf.base.files import open_for_reading, read_regular_file
from longtail.conf.base.locations import Location
from longtail.streaming.events.archives import UNREADABLE, archived_sources
from longtail.streaming.events.files import COLUMNS, archive_names, is_archive, run_of_event_file, shown_name
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.columns import NotEventColumns, as_texts, lines_of_events, read_event_columns

PIECE_BYTES = 64 << 20
"""Lines are read in pieces of about this size, which bounds memory; a line that is longer is cut, and so no event."""


MAX_TOGETHER = 1000
"""Small files are read in groups of so many at most."""
MAX_RUNS_TOGETHER = 50
"""And of the files of so many runs, so that the first runs are shown while others wait."""


@dataclass(frozen=True)
class EventPiece:
    """A file of events, or a part of a long one.

    source: name of the file, relative to the directory of events
    events: by kind, tables of event_schema, which have been checked
    lines: table of LINE_SCHEMA, still to be checked
    """

    source: str
    events: dict[str, pa.Table]
    lines: pa.Table

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return self.lines.nbytes + sum(table.nbytes for table in self.events.values())

    def as_lines(self) -> pa.Table:
        """All events as lines (LINE_SCHEMA)."""
        return pa.concat_tables([lines_of_events(self.events, shown_name(self.source)), self.lines])


def read_event_files(events_dir: Location, names: Iterable[str]) -> Iterator[EventPiece]:
    """The content of event files and archives; of one that cannot be read, a line that says why."""
    missing = []
    for name in names:
        try:
            yield from read_event_file(events_dir, name)
        except FileNotFoundError:
            missing.append(name)
        except (OSError, NotEventColumns) as error:
            # The others must not wait for it: the quarantine shows it.
            text = f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
            yield EventPiece(name, {}, pa.table([[text], [shown_name(name)]], schema=LINE_SCHEMA))
    if missing:
        yield from _read_from_archives(events_dir, {*missing})


def read_event_file(events_dir: Location, name: str) -> Iterator[EventPiece]:
    """The content of one event file or archive. Raises OSError, and NotEventColumns for Parquet of other content."""
    if name.endswith(COLUMNS):
        content = read_regular_file(events_dir / name)
        yield EventPiece(name, *read_event_columns(pa.py_buffer(content), shown_name(name)))
    else:
        for lines in _read_lines(events_dir / name):
            yield EventPiece(name, {}, pa.table([lines, pa.repeat(shown_name(name), len(lines))], schema=LINE_SCHEMA))


def pieces_together(pieces: Iterable[EventPiece], num_bytes: int = PIECE_BYTES) -> Iterator[list[EventPiece]]:
    """Pieces in groups of about so many bytes of memory, MAX_TOGETHER pieces or MAX_RUNS_TOGETHER runs."""
    group: list[EventPiece] = []
    size, runs = 0, set[str | None]()
    for piece in pieces:
        run = run_of_event_file(piece.source)
        is_full = size >= num_bytes or len(group) >= MAX_TOGETHER
        if is_full or (len(runs) >= MAX_RUNS_TOGETHER and run not in runs):
            yield group
            group, size, runs = [], 0, set()
        group.append(piece)
        size += piece.num_bytes
        runs.add(run)
    if group:
        yield group


def _read_lines(file: Location) -> Iterator[pa.ChunkedArray]:
    rest = b""
    with open_for_reading(file) as content:
        while data := content.read(PIECE_BYTES):
            lines = (rest + data).splitlines(keepends=True)
            rest = b"" if len(lines) == 1 and len(lines[0]) > PIECE_BYTES else lines.pop()
            if lines:
                yield _texts(lines)
    if rest:
        yield _texts([rest])


def _texts(lines: list[bytes]) -> pa.ChunkedArray:
    return as_texts(pa.chunked_array([pa.array([line.rstrip(b"\r\n") for line in lines], pa.binary())]))


def _read_from_archives(events_dir: Location, missing: set[str]) -> Iterator[EventPiece]:
    """What became of files that have gone: the archives that have them, as a whole, since events count once."""
    runs = {run_of_event_file(name) for name in missing} | {None}
    gone = {run_of_event_file(name) for name in missing if is_archive(name)}
    sources = {*map(shown_name, missing)}
    looked_at = missing
    # An archive may go into a newer one meanwhile.
    while new := {name for name in archive_names(events_dir) if run_of_event_file(name) in runs} - looked_at:
        looked_at = looked_at | new
        for name in sorted(new):
            with suppress(*UNREADABLE):
                if run_of_event_file(name) in gone or not sources.isdisjoint(archived_sources(events_dir / name)):
                    yield from read_event_file(events_dir, name)
