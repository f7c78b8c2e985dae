"""Reads event files, live and archived, piece by piece. No Spark.

A file that has gone since its name was listed was the file of a step (streaming/events/writer.py), or it is in an
archive now, which is read instead.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from longtail.conf.base.files import open_for_reading, read_regular_file
from longtail.conf.base.locations import Location
from longtail.streaming.events.archives import UNREADABLE, archived_sources
from longtail.streaming.events.files import COLUMNS, archive_names, is_archive, run_of_event_file, shown_name
from longtail.streaming.parsing.arrow import LINE_SCHEMA, together
from longtail.streaming.parsing.columns import (
    ARCHIVED_SOURCE,
    NotEventColumns,
    as_texts,
    checked_events,
    event_rows,
    lines_of_events,
)

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
    rows: events as columns (event_rows), not checked yet; None for lines
    texts: table of LINE_SCHEMA, not checked yet
    """

    source: str
    rows: pa.Table | None
    texts: pa.Table

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return self.texts.nbytes + (self.rows.nbytes if self.rows is not None else 0)

    @property
    def sources(self) -> list[str]:
        """The names that the tables show for the files that the events were in: an archive has those of several."""
        column = self.texts["source"] if self.rows is None else self.rows[ARCHIVED_SOURCE]
        return column.unique().to_pylist()

    @property
    def events(self) -> dict[str, pa.Table]:
        """By kind, tables of event_schema: of columns, what is an event."""
        return self._checked[0]

    @property
    def lines(self) -> pa.Table:
        """Table of LINE_SCHEMA, still to be checked."""
        return self._checked[1]

    @cached_property
    def _checked(self) -> tuple[dict[str, pa.Table], pa.Table]:
        return checked_together([self])

    def as_lines(self) -> pa.Table:
        """All events as lines (LINE_SCHEMA)."""
        return pa.concat_tables([lines_of_events(self.events, shown_name(self.source)), self.lines])


def checked_together(pieces: Sequence[EventPiece]) -> tuple[dict[str, pa.Table], pa.Table]:
    """The `events` and `lines` of pieces, all in one: of many small files, checking each takes most of the time."""
    by_columns: dict[tuple[str, ...], list[pa.Table]] = {}
    for piece in pieces:
        if piece.rows is not None:
            by_columns.setdefault(tuple(piece.rows.column_names), []).append(piece.rows)
    checked = [checked_events(pa.concat_tables(tables).combine_chunks()) for tables in by_columns.values()]
    lines = [*(piece.texts for piece in pieces), *(others for _, others in checked)]
    return together([events for events, _ in checked]), pa.concat_tables([LINE_SCHEMA.empty_table(), *lines])


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
            yield EventPiece(name, None, pa.table([[text], [shown_name(name)]], schema=LINE_SCHEMA))
    if missing:
        yield from _read_from_archives(events_dir, {*missing})


def read_event_file(events_dir: Location, name: str) -> Iterator[EventPiece]:
    """The content of one event file or archive. Raises OSError, and NotEventColumns for Parquet of other content."""
    if name.endswith(COLUMNS):
        content = read_regular_file(events_dir / name)
        yield EventPiece(name, event_rows(pa.py_buffer(content), shown_name(name)), LINE_SCHEMA.empty_table())
    else:
        for lines in _read_lines(events_dir / name):
            yield EventPiece(name, None, pa.table([lines, pa.repeat(shown_name(name), len(lines))], schema=LINE_SCHEMA))


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
