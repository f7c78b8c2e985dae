"""What a row of a table owes to the rows of earlier epochs: the change since the last one, and the best so far."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from longtail.streaming.kernels.groups import Groups, numbers


def change_and_best(
    rows: pa.Table, before: pa.Table, *, key: Sequence[str], value: str, best: str
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) change of the value since the previous row of the key, and (N,) the highest value so far; NaN for unknown.

    rows: key, epoch, value; before: the same for earlier epochs, with the highest value up to them in the column `best`
    """
    names = [*key, "epoch", value]
    together = pa.concat_tables([before.select(names), rows.select(names)])
    groups = Groups(together, key, by=["epoch"])
    values = numbers(together, value)[groups.order]
    best_so_far = np.concatenate([numbers(before, best), np.full(rows.num_rows, np.nan)])[groups.order]
    best_so_far = np.fmax(values, best_so_far)
    change = np.full(len(values), np.nan)
    change[1:] = values[1:] - values[:-1]
    change[groups.starts] = np.nan
    # The maximum of twice as many rows in each step.
    places = np.arange(len(values)) - np.repeat(groups.starts, groups.lengths)
    step = 1
    while step < groups.lengths.max(initial=0):
        earlier = np.where(places[step:] >= step, best_so_far[:-step], np.nan)
        best_so_far[step:] = np.fmax(best_so_far[step:], earlier)
        step *= 2
    found = np.empty((2, len(values)))
    found[:, groups.order] = change, best_so_far
    return found[0, before.num_rows :], found[1, before.num_rows :]
