"""Reads events as columns (streaming/events/columns.py) with the same checks as lines. No Spark.

    events, others = checked_events(event_rows(content, source))

A row that is no event becomes the line of JSON that it would have been, and goes through the checks of lines
(streaming/parsing/lines.py), which find the reason.

An archive (streaming/archive.py) has two columns more: `line` for what was no event in Longtail's own format when it
was archived, and `source`, the file that a row was in.
"""

import json
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.parquet_sizes import check_memory, check_texts
from longtail.streaming.events.archives import MAX_ROWS
from longtail.streaming.events.bounds import ONE_OF, integer_range
from longtail.streaming.events.columns import EVENT_COLUMNS, event_schema
from longtail.streaming.events.schema import (
    EVENT_FORMAT_VERSION,
    EVENT_KINDS,
    RUN_NAME,
    Event,
    field_types,
    json_value,
    later_fields,
    nullable_fields,
)
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.fast_lines import is_possible

ARCHIVED_LINE, ARCHIVED_SOURCE = "line", "source"
ARCHIVE_COLUMNS = pa.schema(
    [*EVENT_COLUMNS, pa.field(ARCHIVED_LINE, pa.binary()), pa.field(ARCHIVED_SOURCE, pa.string())]
)


class NotEventColumns(ValueError):
    """A file that should have events as columns is damaged, or has something else."""


def event_rows(content: pa.Buffer, source: str) -> pa.Table:
    """The rows of a file, not checked yet, each with the name of its file in ARCHIVED_SOURCE; the columns are among
    ARCHIVE_COLUMNS.

    source: name of the file

    Raises NotEventColumns.
    """
    try:
        table = checked_table(content)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NotEventColumns(f"no Parquet file of events: {' '.join(str(error).split())[:300]}") from None
    if ARCHIVED_SOURCE not in table.column_names:
        return table.append_column(ARCHIVED_SOURCE, pa.repeat(source, table.num_rows))
    sources = pc.fill_null(table[ARCHIVED_SOURCE], source)
    return table.set_column(table.column_names.index(ARCHIVED_SOURCE), ARCHIVED_SOURCE, sources)


def checked_events(table: pa.Table) -> tuple[dict[str, pa.Table], pa.Table]:
    """The events per kind, each a table of its event_schema, and the lines (LINE_SCHEMA) that are none, or not surely.

    table: event_rows; those of files with the same columns may come together, which takes a third of the time
    """
    sources = table[ARCHIVED_SOURCE]
    lines = _column(table, ARCHIVED_LINE)
    is_line = pc.is_valid(lines)
    others = [pa.table([as_texts(lines.filter(is_line)), sources.filter(is_line)], schema=LINE_SCHEMA)]
    rows = table.select([name for name in table.column_names if name in EVENT_COLUMNS.names])
    is_other = pc.invert(is_line)
    events: dict[str, pa.Table] = {}
    for name, kind in EVENT_KINDS.items():
        is_kind = pc.and_(pc.fill_null(pc.equal(_column(rows, "kind"), name), False), is_other)
        own = _with_later_fields(rows.filter(is_kind), kind)
        if not own.num_rows:
            continue
        is_event = _is_event(own, kind)
        if not pc.all(is_event).as_py():
            is_bad = pc.invert(is_event)
            others.append(_as_lines(own.filter(is_bad), sources.filter(is_kind).filter(is_bad)))
            own = own.filter(is_event)
        if own.num_rows:
            events[name] = own.select(event_schema(kind).names)
        is_other = pc.and_not(is_other, is_kind)
    others.append(_as_lines(rows.filter(is_other), sources.filter(is_other)))
    return events, pa.concat_tables(others)


def checked_table(content: pa.Buffer) -> pa.Table:
    """The columns of a file, which are among ARCHIVE_COLUMNS.

    Raises ValueError, OSError or pa.ArrowException if it has others, is damaged, or would take much more memory than
    it has bytes.
    """
    schema = pq.read_schema(pa.BufferReader(content))
    for field in schema:
        index = ARCHIVE_COLUMNS.get_field_index(field.name)
        if index < 0 or field.type != ARCHIVE_COLUMNS.field(index).type:
            raise ValueError(f"column {field.name} of type {field.type}")
    # As dictionaries: how much text a file holds is known before its repeated values are spelled out.
    texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
    file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts)
    if len({*schema.names}) < len(schema.names):
        raise ValueError("a column is repeated")
    if file.metadata.num_rows > MAX_ROWS:
        raise ValueError(f"{file.metadata.num_rows} rows, of at most {MAX_ROWS}")
    check_memory(file, schema.names, file=content, as_dictionaries=True)
    table = file.read(use_threads=False)
    check_texts(table[name] for name in texts)
    table = table.cast(schema)
    table.validate(full=True)
    return table


def as_texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bytes as strings, whether or not they are UTF-8."""
    return pa.chunked_array([chunk.view(pa.string()) for chunk in values.chunks], pa.string())


def lines_of_events(events: dict[str, pa.Table], source: str) -> pa.Table:
    """Events as the lines that say the same (LINE_SCHEMA)."""
    texts = [
        json.dumps({name: json_value(value) for name, value in row.items()})
        for table in events.values()
        for row in table.to_pylist()
    ]
    return pa.table([texts, [source] * len(texts)], schema=LINE_SCHEMA)


def _column(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name in rows.column_names:
        return rows[name]
    return pa.chunked_array([pa.nulls(rows.num_rows, ARCHIVE_COLUMNS.field(name).type)])


def _with_later_fields(rows: pa.Table, kind: type[Event]) -> pa.Table:
    """Null where a file of an older version lacks them."""
    for name in later_fields(kind):
        if name not in rows.column_names:
            rows = rows.append_column(event_schema(kind).field(name), _column(rows, name))
    return rows


def _is_event(rows: pa.Table, kind: type[Event]) -> pa.ChunkedArray:
    types, nullable = field_types(kind), nullable_fields(kind)
    if not {*types} <= {*rows.column_names}:
        return pa.chunked_array([pa.repeat(False, rows.num_rows)])
    # Of nearly all files, whole columns are as they should be: a look at each row is left out where one number tells.
    checks = [
        pc.is_null(rows[name]) if name not in types else pc.is_valid(rows[name])
        for name in rows.column_names
        if name not in nullable and rows[name].null_count != (0 if name in types else rows.num_rows)
    ]
    ranges = {name: integer_range(name) for name, value_type in types.items() if value_type is int}
    checks += [
        pc.and_(pc.greater_equal(rows[name], low), pc.less_equal(rows[name], high))
        for name, (low, high) in (ranges | {"format_version": (1, EVENT_FORMAT_VERSION)}).items()
        if not _is_within(rows[name], low, high)
    ]
    checks += [pc.is_in(rows[name], pa.array(values)) for name, values in ONE_OF.items() if name in types]
    checks += [pc.match_substring_regex(rows["run"], rf"\A{RUN_NAME.pattern}\z"), is_possible(rows, kind)]
    return pc.fill_null(reduce(pc.and_kleene, checks), True)


def _is_within(column: pa.ChunkedArray, low: int, high: int) -> bool:
    """Whether all values are, as far as there are any."""
    least, most = pc.min_max(column).as_py().values()
    return least is None or low <= least <= most <= high


def _as_lines(rows: pa.Table, sources: pa.ChunkedArray) -> pa.Table:
    texts = [
        json.dumps({name: json_value(value) for name, value in row.items() if value is not None})
        for row in rows.to_pylist()
    ]
    return pa.table([pa.array(texts, pa.string()), sources], schema=LINE_SCHEMA)
