"""Of events with the same key the one that counts, as streaming/queries.py defines it, by Arrow and numpy."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from longtail.streaming.kernels.groups import Groups, ordinals
from longtail.streaming.tables.reading import latest_epochs
from longtail.streaming.tables.schemas import LATEST_WINDOWS

CLASS_KEY = ["run", "split", "class_id", "epoch"]
"""Identifies a row of class_epochs."""
_ORDER = ["attempt", "emitted_at"]


def latest_class_events_table(events: pa.Table) -> pa.Table:
    """One row per run, split, epoch and class, unless a higher attempt has measured its epoch or an earlier one."""
    return _newest(_not_begun_again(events), CLASS_KEY)


def confusion_table(reports: pa.Table) -> pa.Table:
    """The cells of each run and split at the latest epoch of its highest attempt."""
    of_latest = latest_epochs(_at_highest(reports, ["attempt"], by=["run", "split"]))
    return _newest(of_latest, ["run", "split", "epoch", "true_class", "predicted_class"])


def steps_table(reports: pa.Table) -> pa.Table:
    """Progress inside the epochs, without those that a higher attempt has begun again, and the ones after them."""
    return _newest(_not_begun_again(reports), ["run", "epoch", "step"])


def pseudo_labels_table(reports: pa.Table) -> pa.Table:
    """One row per run that labelled, round and class, of the latest labelling."""
    return _newest(_at_highest(reports, _ORDER, by=["run", "round"]), ["run", "round", "class_id"])


def predictions_table(reports: pa.Table) -> pa.Table:
    """One row per run, stream, window and class, of the LATEST_WINDOWS windows of each stream."""
    of_window = ["run", "stream", "window_start"]
    rows = _newest(_at_highest(reports, _ORDER, by=of_window), [*of_window, "class_id"])
    windows = Groups(rows, of_window)
    streams = Groups(rows.take(pa.array(windows.first)), of_window[:2])
    if not len(streams) or streams.lengths.max() <= LATEST_WINDOWS:
        return rows
    from_last = np.zeros(len(windows), np.int64)
    from_last[streams.order] = np.concatenate([np.arange(length)[::-1] for length in streams.lengths])
    return rows.filter(pa.array(windows.of_rows(from_last) < LATEST_WINDOWS))


EVENT_KERNELS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "confusion": confusion_table,
    "steps": steps_table,
    "pseudo_labels": pseudo_labels_table,
    "predictions": predictions_table,
}
"""Tables whose rows are the events of one kind."""


def _at_highest(table: pa.Table, value: Sequence[str], *, by: Sequence[str]) -> pa.Table:
    """The rows whose values are the highest ones of all rows with the same `by`."""
    for name in value:
        if len(table[name].unique()) > 1:
            groups, values = Groups(table, by), ordinals(table, name)
            table = table.filter(pa.array(values == groups.of_rows(groups.max(values))))
    return table


def _not_begun_again(table: pa.Table) -> pa.Table:
    """The rows of a run whose epoch, and all before it, no higher attempt has rows of."""
    attempts = ordinals(table, "attempt")
    if not table.num_rows or attempts.min() == attempts.max():
        return table
    epochs = Groups(table, ["run", "epoch"])
    highest = epochs.max(attempts)
    runs = Groups(table.take(pa.array(epochs.first)), ["run"])
    for of_run in np.split(highest, runs.starts[1:]):
        np.maximum.accumulate(of_run, out=of_run)
    return table.filter(pa.array(attempts == epochs.of_rows(highest)))


def _newest(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """One row per key: of the highest attempt the one emitted last, and of several such the one of the largest values.

    The last only so that the choice does not depend on the order of rows.
    """
    # Most tables have no repeated row, and hashing is faster than sorting.
    counts = table.group_by(list(key)).aggregate([])
    if counts.num_rows == table.num_rows:
        return table
    rest = [name for name in table.column_names if name not in (*key, *_ORDER)]
    groups = Groups(table, key, by=[*_ORDER, *rest])
    return table.take(pa.array(np.sort(groups.last)))
