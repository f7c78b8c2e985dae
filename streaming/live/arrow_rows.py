"""Splits and selects rows of Arrow tables by key."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.kernels.groups import Groups


def split_by(table: pa.Table, column: str) -> dict[str, pa.Table]:
    """The rows of a table by the value of a column."""
    runs = pc.run_end_encode(table[column].combine_chunks())
    if len(runs.values) > len(runs.values.unique()):
        return split_by(table.sort_by(column), column)
    starts = [0, *runs.run_ends.to_pylist()]
    values = zip(runs.values.to_pylist(), starts[:-1], starts[1:], strict=True)
    return {value: table.slice(start, end - start) for value, start, end in values}


def split_by_segment(table: pa.Table, segment_epochs: int) -> dict[str, pa.Table]:
    """The rows of a table by the segment that their epoch belongs to."""
    segments = sorted({epoch // segment_epochs for epoch in table["epoch"].unique().to_pylist()})
    if len(segments) == 1:
        return {str(segments[0]): table}
    segment_of = np.floor_divide(table["epoch"].to_numpy(), segment_epochs)
    return {str(segment): table.filter(pa.array(segment_of == segment)) for segment in segments}


def last_rows(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The row of the highest epoch of each key. There must be one row per key and epoch."""
    return table.take(pa.array(np.sort(Groups(table, key, by=["epoch"]).last)))


def rows_with_keys(table: pa.Table, keys: pa.Table) -> pa.Table:
    """The rows of a table whose key is in `keys`, whose columns are the key."""
    groups = Groups(pa.concat_tables([keys, table.select(keys.column_names)]), keys.column_names)
    is_known = groups.of_rows(groups.max(np.arange(keys.num_rows + table.num_rows) < keys.num_rows))
    return table.filter(pa.array(is_known[keys.num_rows :]))
