"""Lines that are exactly as streaming/events/schema.py writes an event, read by columns. No Spark.

    events, others = written_events(lines)

Spark's JSON functions take about 60 microseconds of a core for a line, more than all that is done with the event
afterwards. Nearly every line is one that longtail wrote. One regular expression says so: such a line has the fields
of its kind, each of its type and in its range, in their order; it is an event by all checks of
streaming/parsing/lines.py, and what is left is to read the values. Any other line goes through those checks.
"""

import dataclasses
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from longtail.streaming.events.schema import EVENT_KINDS, EVENT_SCHEMA_VERSION, RUN_NAME, RUN_STATES, ClassEvent, Event

LINE_SCHEMA = pa.schema([("value", pa.string()), ("source", pa.string())])
"""A line, and where it comes from."""

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), float | None: pa.float64()}
# At most so many digits that a number fits its type.
_COUNT = "(?:0|[1-9][0-9]{0,17})"
_REAL = r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][-+]?[0-9]{1,2})?"
# Without surrogates: half a pair is no text.
_TEXT = r'"(?:[ !#-\[\]-~]|\\["\\/bfnrt]|\\u[0-9a-cefA-CEF][0-9a-fA-F]{3})*"'
_PATTERNS = {int: _COUNT, float: _REAL, str: _TEXT, float | None: f"(?:null|{_REAL})"}
_FROM_ONE = "[1-9][0-9]{0,17}"


def event_schema(kind: type[Event]) -> pa.Schema:
    """The fields of an event kind as columns."""
    return pa.schema([(field.name, _TYPES[field.type]) for field in dataclasses.fields(kind)])


def written_events(lines: pa.Table) -> tuple[dict[str, pa.Table], pa.Table]:
    """The events by kind, each a table of its event_schema, and the lines that are left.

    lines: of LINE_SCHEMA, in any bytes
    """
    values = lines["value"]
    events: dict[str, pa.Table] = {}
    others = [lines.slice(0, 0)]
    # An empty line is none.
    is_left = pc.not_equal(values, "")
    for name, kind in EVENT_KINDS.items():
        is_written = pc.match_substring_regex(values, _LINES[name])
        is_left = pc.and_not(is_left, is_written)
        written = values.filter(is_written)
        if not len(written):
            continue
        events[name] = _values(written, kind)
        if kind is ClassEvent:
            is_possible = pc.less_equal(events[name]["correct"], events[name]["support"])
            if not pc.all(is_possible).as_py():
                events[name] = events[name].filter(is_possible)
                others.append(lines.filter(is_written).filter(pc.invert(is_possible)))
    return events, pa.concat_tables([lines.filter(is_left), *others])


def _values(lines: pa.ChunkedArray, kind: type[Event]) -> pa.Table:
    """lines: all of this kind, as it is written"""
    text = pc.binary_join_element_wise(lines.combine_chunks(), "", "\n")
    _, offsets, characters = text.buffers()
    end = pa.Array.from_buffers(pa.int32(), 1, [None, offsets], offset=len(text))[0].as_py()
    table = pyarrow.json.read_json(
        pa.BufferReader(characters.slice(0, end)),
        # A block has whole lines, however long they are.
        read_options=pyarrow.json.ReadOptions(block_size=max(_BLOCK_BYTES, pc.max(pc.binary_length(text)).as_py() + 1)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=event_schema(kind), unexpected_field_behavior="error"),
    )
    assert table.num_rows == len(lines)
    return table


def _line_pattern(kind: type[Event]) -> str:
    own: dict[str, Any] = {
        "schema_version": EVENT_SCHEMA_VERSION,
        "kind": f'"{kind.kind}"',
        "run": f'"{RUN_NAME.pattern}"',
        "state": f'"(?:{"|".join(RUN_STATES)})"',
        "attempt": _FROM_ONE,
        "round": _FROM_ONE,
    }
    fields = (f'"{field.name}": {own.get(field.name, _PATTERNS[field.type])}' for field in dataclasses.fields(kind))
    return rf"\A\{{{', '.join(fields)}\}}\z"


_BLOCK_BYTES = 1 << 20
_LINES = {name: _line_pattern(kind) for name, kind in EVENT_KINDS.items()}
