"""Arrow schema of event lines, the run that a line names, and events in one. No Spark."""

import re
from collections.abc import Mapping, Sequence

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


def together(parts: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    """Tables by name, each all parts' tables of this name one after the other."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pa.concat_tables([part[name] for part in parts if name in part]) for name in names}
