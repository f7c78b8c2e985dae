"""Arrow schema of event lines, and the run that a line names. No Spark."""

import re

import pyarrow as pa

from longtail.streaming.events.schema import RUN_NAME

LINE_SCHEMA = pa.schema([("value", pa.string()), ("source", pa.string())])
"""A line of text, and the file or message that it comes from."""

RUN_IN_LINE = rf'"run"[ \t]*:[ \t]*"({RUN_NAME.pattern})"'
"""Finds the run that a line names, whether or not it is JSON; for Python and for Spark."""


def run_named_in(line: str) -> str | None:
    """The run that a line which is no event names, None if it names none."""
    found = re.search(RUN_IN_LINE, line)
    return found and found[1]
