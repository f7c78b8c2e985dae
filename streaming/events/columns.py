"""Events as columns: a Parquet file has a row for each event, the fields of all its event kinds as columns, and null
where a kind lacks a field. No Spark.

    write_event_columns(file, events)                # read by streaming/parsing/columns.py
    spark.read.parquet(...), pandas.read_parquet(...)

An epoch of 8,142 classes is 12 MB of JSON lines, and some hundred kilobytes of columns, which nobody has to parse.
"""

from collections.abc import Sequence
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location
from longtail.streaming.events.schema import EVENT_KINDS, Event, field_types

ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def event_schema(kind: type[Event]) -> pa.Schema:
    """The fields of an event kind as columns."""
    return pa.schema([(name, ARROW_TYPES[value_type]) for name, value_type in field_types(kind).items()])


EVENT_COLUMNS = pa.unify_schemas([event_schema(kind) for kind in EVENT_KINDS.values()])
"""The fields of all event kinds."""


def write_event_columns(file: Location, events: Sequence[Event]) -> None:
    """Write events as one file that appears atomically; the kinds one after the other, each in the order given."""
    write_columns(file, pa.concat_tables(list(_by_kind(events).values()), promote_options="default"))


def write_columns(file: Location, table: pa.Table) -> None:
    """Write a table as one Parquet file that appears atomically."""
    write_atomically(file, lambda path: pq.write_table(table, path, compression="zstd", write_statistics=False))


def _by_kind(events: Sequence[Event]) -> dict[str, pa.Table]:
    tables = {}
    for name, kind in EVENT_KINDS.items():
        own = [event for event in events if event.kind == name]
        if own:
            schema = event_schema(kind)
            tables[name] = pa.table([[*map(attrgetter(field), own)] for field in schema.names], schema=schema)
    return tables
