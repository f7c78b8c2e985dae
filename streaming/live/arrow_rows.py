"""Splits, combines and selects rows of Arrow tables by key."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def together(parts: Sequence[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    """Tables by name, each all parts' tables of this name one after the other."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pa.concat_tables([part[name] for part in parts if name in part]) for name in names}


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
    return {
        str(segment): table.filter(
            (pc.field("epoch") >= segment * segment_epochs) & (pc.field("epoch") < (segment + 1) * segment_epochs)
        )
        for segment in segments
    }


def last_rows(table: pa.Table, key: list[str]) -> pa.Table:
    """The row of the highest epoch of each key. There must be one row per key and epoch."""
    last = table.group_by(key).aggregate([("epoch", "max")]).rename_columns([*key, "epoch"])
    return table.join(last, keys=[*key, "epoch"], join_type="inner").select(table.column_names)
