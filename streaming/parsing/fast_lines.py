"""Reads event lines that are formatted exactly as Longtail writes them. No Spark.

    events, others = read_fast_lines(lines)

Spark's JSON functions take about 60 microseconds of CPU time per line, more than all later work on the event. Nearly
every line was written by Longtail, which one regular expression per event kind can verify: the line has the fields of
its kind in their order, each of its type and in its range, so it would pass all checks of streaming/parsing/lines.py
and only its values remain to be read. All other lines go through those checks.
"""

import json
import re
from functools import reduce
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from longtail.streaming.events.bounds import MAX_NESTING, NOT_ABOVE, ONE_OF, REALS, integer_range, longest_text
from longtail.streaming.events.columns import event_schema
from longtail.streaming.events.schema import (
    EVENT_FORMAT_VERSION,
    EVENT_KINDS,
    RUN_NAME,
    Event,
    RunEvent,
    field_types,
    later_fields,
    nullable_fields,
)

_REAL = r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][-+]?[0-9]{1,2})?"
# Without surrogates: half a pair is no text.
_TEXT = r'"(?:[ !#-\[\]-~]|\\["\\/bfnrt]|\\u[0-9a-cefA-CEF][0-9a-fA-F]{3})*"'
_BLOCK_BYTES = 1 << 20
_PLAIN_LENGTH, _HUGE_NUMBER = 20_000, re.compile("[0-9]{300}")


def read_fast_lines(lines: pa.Table, *, source: str | None = None) -> tuple[dict[str, pa.Table], pa.Table]:
    """The events per kind, each a table of its event_schema, and the lines that are not in Longtail's own format.

    lines: table of LINE_SCHEMA, with arbitrary bytes
    source: name of a further column of the events, for the source of each
    """
    lines = lines.combine_chunks()  # an expression is compiled anew for each chunk
    values = lines["value"]
    events: dict[str, pa.Table] = {}
    others = [lines.slice(0, 0)]
    # Empty lines are ignored.
    is_other = pc.not_equal(values, "")
    for name, kind in EVENT_KINDS.items():
        is_event = pc.match_substring_regex(values, _LINE_PATTERNS[name])
        is_other = pc.and_not(is_other, is_event)
        matched = values.filter(is_event)
        if not len(matched):
            continue
        found = _parse(matched, kind)
        if source is not None:
            found = found.append_column(source, lines["source"].filter(is_event))
        possible = is_possible(found, kind)
        if not pc.all(possible).as_py():
            found = found.filter(possible)
            others.append(lines.filter(is_event).filter(pc.invert(possible)))
        if found.num_rows:
            events[name] = found
    return events, pa.concat_tables([lines.filter(is_other), *others])


def is_possible(events: pa.Table, kind: type[Event]) -> pa.ChunkedArray:
    """Which events have all values within their bounds, as far as line_pattern does not verify it."""
    types = field_types(kind)
    checks = [
        *(pc.less_equal(events[low], events[high]) for low, high in NOT_ABOVE.items() if {low, high} <= types.keys()),
        *(pc.and_(pc.greater_equal(events[name], low), pc.less_equal(events[name], high))
          for name, (low, high) in REALS.items() if name in types),
        *(pc.less_equal(pc.binary_length(events[name]), longest_text(name)) for name, of in types.items() if of is str),
    ]  # fmt: skip
    if kind is RunEvent:
        checks.append(pa.chunked_array([pa.array(map(_is_plain_object, events["configuration"].to_pylist()))]))
    return pc.fill_null(reduce(pc.and_kleene, checks), True)


def _is_plain_object(text: str) -> bool:
    """Whether a text is a JSON object that any parser reads: neither long, nor deep, nor with huge numbers."""
    if len(text) > _PLAIN_LENGTH or text.count("[") + text.count("{") > MAX_NESTING or _HUGE_NUMBER.search(text):
        return False
    try:
        return isinstance(json.loads(text, parse_constant=_refuse), dict)
    except ValueError:
        return False


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _parse(lines: pa.ChunkedArray, kind: type[Event]) -> pa.Table:
    """lines: all of this kind, in Longtail's own format"""
    text = pc.binary_join_element_wise(lines.combine_chunks(), "", "\n")
    _, offsets, characters = text.buffers()
    end = pa.Array.from_buffers(pa.int32(), 1, [None, offsets], offset=len(text))[0].as_py()
    table = pyarrow.json.read_json(
        pa.BufferReader(characters.slice(0, end)),
        # A block holds at least one whole line, however long it is.
        read_options=pyarrow.json.ReadOptions(block_size=max(_BLOCK_BYTES, pc.max(pc.binary_length(text)).as_py() + 1)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=event_schema(kind), unexpected_field_behavior="error"),
    )
    assert table.num_rows == len(lines)
    return table


def line_pattern(kind: type[Event]) -> str:
    """The regular expression that matches the lines of an event kind in all format versions."""
    own = {
        "format_version": f"(?:{'|'.join(map(str, range(1, EVENT_FORMAT_VERSION + 1)))})",
        "kind": f'"{kind.kind}"',
        "run": f'"{RUN_NAME.pattern}"',
        **{name: f'"(?:{"|".join(values)})"' for name, values in ONE_OF.items()},
    }
    nullable, later = nullable_fields(kind), later_fields(kind)
    fields = ""
    for name, value_type in field_types(kind).items():
        value = own.get(name) or _value_pattern(name, value_type)
        field = f'{", " if fields else ""}"{name}": {f"(?:null|{value})" if name in nullable else value}'
        fields += f"(?:{field})?" if name in later else field
    return rf"\A\{{{fields}\}}\z"


def _value_pattern(name: str, value_type: type) -> str:
    if value_type is int:
        lowest, highest = integer_range(name)
        positive = f"[1-9][0-9]{{0,{len(str(highest)) - 1}}}"
        return positive if lowest else f"(?:0|{positive})"
    return _REAL if value_type is float else _TEXT


_LINE_PATTERNS = {name: line_pattern(kind) for name, kind in EVENT_KINDS.items()}
