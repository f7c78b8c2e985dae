"""Rows of an Arrow table as groups of equal keys, for numpy."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers; null is NaN, so that integers must have none."""
    return table[name].to_numpy()


def ordinals(table: pa.Table, name: str) -> np.ndarray:
    """Integers in the order of a column's values as Spark orders them: null first, NaN last, text by its bytes."""
    column = table[name].combine_chunks()
    if pa.types.is_integer(column.type) and not column.null_count:
        return column.to_numpy()
    encoded = column.dictionary_encode()
    # Arrow puts NaN after the other numbers.
    ranks = pc.rank(encoded.dictionary, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    known = pc.fill_null(encoded.indices, 0).to_numpy()
    found = ranks[known] if len(ranks) else np.zeros(len(column), np.int64)
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), found, -1)


class Groups:
    """The rows of a table by the values of some columns; groups are sorted by these values.

    order: (N,) rows of one group after the other, those of a group by the columns `by`, else as they were
    starts: (G,) where groups begin in this order
    """

    def __init__(self, table: pa.Table, key: Sequence[str], *, by: Sequence[str] = ()) -> None:
        columns = [ordinals(table, name) for name in (*key, *by)]
        self.order = np.lexsort(columns[::-1]) if table.num_rows else np.zeros(0, np.int64)
        is_first = np.zeros(table.num_rows, bool)
        is_first[:1] = True
        for column in columns[: len(key)]:
            ordered = column[self.order]
            is_first[1:] |= ordered[1:] != ordered[:-1]
        self.starts = np.flatnonzero(is_first)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """(G,) rows of each group."""
        return np.diff(self.starts, append=len(self.order))

    @property
    def first(self) -> np.ndarray:
        """(G,) the first row of each group."""
        return self.order[self.starts]

    @property
    def last(self) -> np.ndarray:
        """(G,) the last row of each group."""
        return self.order[self.starts + self.lengths - 1]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """(N,) -> (G,); infinite or NaN where the sum is."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.add.reduceat(values[self.order], self.starts) if len(self) else values[:0]

    def max(self, values: np.ndarray) -> np.ndarray:
        """(N,) -> (G,); NaN, which is null, only in groups that have nothing else."""
        return np.fmax.reduceat(values[self.order], self.starts) if len(self) else values[:0]

    def of_rows(self, values: np.ndarray) -> np.ndarray:
        """(G,) -> (N,): to each row the value of its group."""
        found = np.empty(len(self.order), values.dtype)
        found[self.order] = np.repeat(values, self.lengths)
        return found


def quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator.astype(float) / denominator.astype(float))


def nullable(values: np.ndarray, is_known: np.ndarray | None = None) -> pa.Array:
    """A column with null where nothing is known, by default for NaN."""
    return pa.array(values, mask=np.isnan(values) if is_known is None else ~is_known)
