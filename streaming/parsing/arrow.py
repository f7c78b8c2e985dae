"""Arrow schemas of event lines and events. No Spark."""

import pyarrow as pa

from longtail.streaming.events.schema import Event, field_types

LINE_SCHEMA = pa.schema([("value", pa.string()), ("source", pa.string())])
"""A line of text, and the file or message that it comes from."""

_ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def event_schema(kind: type[Event]) -> pa.Schema:
    """The fields of an event kind as columns."""
    return pa.schema([(name, _ARROW_TYPES[value_type]) for name, value_type in field_types(kind).items()])
