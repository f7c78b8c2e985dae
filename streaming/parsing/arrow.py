"""Arrow schemas of event lines and events, and the run that a line names. No Spark."""

import re

import pyarrow as pa

from longtail.streaming.events.schema import RUN_NAME, Event, field_types

LINE_SCHEMA = pa.schema([("value", pa.string()), ("source", pa.string())])
"""A line of text, and the file or message that it comes from."""

_ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def event_schema(kind: type[Event]) -> pa.Schema:
    """The fields of an event kind as columns."""
    return pa.schema([(name, _ARROW_TYPES[value_type]) for name, value_type in field_types(kind).items()])


RUN_IN_LINE = rf'"run"[ \t]*:[ \t]*"({RUN_NAME.pattern})"'
"""Finds the run that a line names, whether or not it is JSON; for Python and for Spark."""


def run_named_in(line: str) -> str | None:
    """The run that a line which is no event names, None if it names none."""
    found = re.search(RUN_IN_LINE, line)
    return found and found[1]
