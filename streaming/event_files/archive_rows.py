"""The content of event files as rows of an archive (streaming/archive.py). No Spark.

Rows of columns stay as they are: whoever reads the archive checks them, as whoever reads the file does. Lines in
Longtail's own format become rows; all others stay lines.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from longtail.conf.base.locations import Location
from longtail.streaming.event_files.reading import MAX_TOGETHER, PIECE_BYTES, read_event_file
from longtail.streaming.events.archives import PROGRESS_COLUMNS
from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.files import shown_name
from longtail.streaming.events.schema import EVENT_KINDS
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.columns import ARCHIVE_COLUMNS, ARCHIVED_LINE, ARCHIVED_SOURCE, NotEventColumns
from longtail.streaming.parsing.fast_lines import read_fast_lines


def rows_of_files(events_dir: Location, names: Iterable[str]) -> Iterator[tuple[str, pa.Table]]:
    """Each file's name and its content as a table of ARCHIVE_COLUMNS, in the order of the names.

    Files that have gone, or whose content cannot be kept as rows, are left out. The lines of many small files are read
    together: one reading takes as long as some hundred events.
    """
    rows: dict[str, list[pa.Table]] = {}
    lines: list[tuple[str, pa.Table]] = []
    size = 0
    for name in names:
        rows[name] = []
        try:
            for piece in read_event_file(events_dir, name):
                size += piece.num_bytes
                if piece.rows is None:
                    lines.append((name, piece.texts))
                else:
                    rows[name].append(piece.rows.drop_columns(ARCHIVED_SOURCE))
                if size >= PIECE_BYTES:
                    _add_lines(rows, lines)
        except (OSError, NotEventColumns):
            del rows[name]
            lines = [(other, texts) for other, texts in lines if other != name]
            continue
        if len(rows) >= MAX_TOGETHER or size >= PIECE_BYTES:
            _add_lines(rows, lines)
            yield from _tables(rows)
            rows, size = {}, 0
    _add_lines(rows, lines)
    yield from _tables(rows)


def _tables(rows: dict[str, list[pa.Table]]) -> Iterator[tuple[str, pa.Table]]:
    for name, parts in rows.items():
        sources = [part.append_column(ARCHIVED_SOURCE, pa.repeat(shown_name(name), part.num_rows)) for part in parts]
        table = pa.concat_tables([ARCHIVE_COLUMNS.empty_table(), *sources], promote_options="default")
        yield name, table.select(ARCHIVE_COLUMNS.names)


def _add_lines(rows: dict[str, list[pa.Table]], lines: list[tuple[str, pa.Table]]) -> None:
    """Add to each file's rows what its lines are, and forget the lines."""
    if not lines:
        return
    # By numbers, since two names may be shown alike.
    texts = [
        pa.table([table["value"], pa.repeat(str(number), table.num_rows)], schema=LINE_SCHEMA)
        for number, (_, table) in enumerate(lines)
    ]
    events, others = read_fast_lines(pa.concat_tables(texts), source=ARCHIVED_SOURCE)
    kept = pa.table({ARCHIVED_LINE: others["value"].cast(pa.binary()), ARCHIVED_SOURCE: others["source"]})
    for table in (*events.values(), kept):
        numbers = table[ARCHIVED_SOURCE].cast(pa.int64()).to_numpy()
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        of_files = table.drop_columns(ARCHIVED_SOURCE).take(pa.array(order))
        for number, start, end in zip(found, starts, np.append(starts, len(order))[1:], strict=True):
            rows[lines[number][0]].append(of_files.slice(start, end - start))
    lines.clear()


def without_empty_columns(rows: pa.Table) -> pa.Table:
    """Rows of an archive without the columns that are of no use to any of them: each costs time to write and to read.

    Columns of the kinds of events that there are stay, as do those that say how far the run is.
    """
    needed = {*PROGRESS_COLUMNS.names, ARCHIVED_LINE, ARCHIVED_SOURCE}
    for name in rows["kind"].unique().to_pylist():
        if name in EVENT_KINDS:
            needed.update(event_schema(EVENT_KINDS[name]).names)
    return rows.select([name for name in rows.column_names if name in needed or rows[name].null_count < rows.num_rows])
