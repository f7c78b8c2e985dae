"""The axis that all charts of classes share: from the class with most labelled images to the one with fewest.

Pseudo-labels do not count, as in the shot groups: so the axis is the same with
and without them.

Of more classes than a chart has room for, neighbours are joined in bands of
equal size, so that a chart of 1000 classes shows what one of 50 does: their
mean. A filter on the page brings single classes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.dashboard.style import head_tail_colour, shown_name

MAX_NAMED_ROWS = 25
NAMED_OF_MANY = 9
"""Up to so many rows each has its name at the axis; of more, so many."""


@dataclass(frozen=True)
class ClassAxis:
    """The rows of a chart, head first.

    class_ids: (C,) int64, from most to fewest labelled images
    band: (C,) int64, the row of each of them, from 0, rising
    names, counts: a row's class and its labelled images, in words; hovers: its text under the pointer
    places: a row's place from head (0) to tail (1), among all classes of the run
    """

    class_ids: np.ndarray
    band: np.ndarray
    names: list[str]
    counts: list[str]
    hovers: list[str]
    places: list[float]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_banded(self) -> bool:
        return len(self.names) < len(self.class_ids)

    @property
    def colours(self) -> list[str]:
        return [head_tail_colour(place) for place in self.places]

    def ticks(self) -> dict[str, list]:
        """Where rows are named: each; or of many some, the head's first and the tail's last always among them."""
        rows = np.arange(len(self))
        if len(self) > MAX_NAMED_ROWS:
            rows = np.unique(np.linspace(0, len(self) - 1, NAMED_OF_MANY).round().astype(int))
        return {"tickvals": rows.tolist(), "ticktext": [self._tick(row) for row in rows]}

    def _tick(self, row: int) -> str:
        ends = {0: "head  ", len(self) - 1: "tail  "} if self.is_banded else {}
        name = ends.get(row, "") if self.is_banded else f"{self.names[row]}  "
        return f"<b>{name}</b>{self.counts[row]}"

    def rows_of(self, class_ids: np.ndarray) -> np.ndarray:
        """The row of each class, -1 for one that the axis does not show."""
        if not len(self.class_ids):
            return np.full(len(class_ids), -1)
        by_id = np.argsort(self.class_ids)
        found = np.searchsorted(self.class_ids, class_ids, sorter=by_id).clip(max=len(by_id) - 1)
        position = by_id[found]
        return np.where(self.class_ids[position] == class_ids, self.band[position], -1)

    def means(self, class_ids: np.ndarray, columns: np.ndarray, values: np.ndarray, num_columns: int) -> np.ndarray:
        """(rows, num_columns) mean of the values of each row's classes in each column, NaN where there is none.

        class_ids, columns, values: (N,), an entry each; NaN values count for nothing
        """
        rows = self.rows_of(class_ids)
        counted = (rows >= 0) & ~np.isnan(values)
        cells = rows[counted] * num_columns + columns[counted]
        size = len(self) * num_columns
        sums = np.bincount(cells, weights=values[counted], minlength=size)
        counts = np.bincount(cells, minlength=size)
        with np.errstate(invalid="ignore"):
            return (sums / counts).reshape(len(self), num_columns)

    def means_of_classes(self, class_ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(rows,) mean over each row's classes."""
        return self.means(class_ids, np.zeros(len(values), dtype=int), values, 1)[:, 0]


def class_axis(classes: pa.Table, *, max_rows: int, group: str = "all", name_part: str = "") -> ClassAxis:
    """The axis of the classes of one run, of a group and with a name that contains name_part in any case.

    classes: class_id, class_name, shot_group, train_count, pseudo_label_count (of the former), a row a class
    """
    labelled = pc.subtract(classes["train_count"], pc.fill_null(classes["pseudo_label_count"], 0))
    order = classes.append_column("labelled_count", labelled)
    order = order.sort_by([("labelled_count", "descending"), ("class_id", "ascending")])
    num_all = len(order)
    wanted = pc.match_substring(order["class_name"], name_part, ignore_case=True)
    if group != "all":
        wanted = pc.and_(wanted, pc.equal(order["shot_group"], group))
    ranks = np.flatnonzero(wanted.to_numpy(zero_copy_only=False))
    shown = order.take(ranks)
    names, counts, groups = (shown[name].to_pylist() for name in ("class_name", "labelled_count", "shot_group"))
    parts = np.array_split(np.arange(len(ranks)), min(len(ranks), max_rows)) if len(ranks) else []
    return ClassAxis(
        class_ids=shown["class_id"].to_numpy(),
        band=np.repeat(np.arange(len(parts)), [len(part) for part in parts]).astype(int),
        names=[_name(part, names) for part in parts],
        counts=[_between(counts[part[0]], counts[part[-1]]) for part in parts],
        hovers=[_hover(part, names, counts, groups) for part in parts],
        places=[float(ranks[part].mean() / max(num_all - 1, 1)) for part in parts],
    )


def _name(part: Sequence[int], names: list[str]) -> str:
    return shown_name(names[part[0]]) if len(part) == 1 else f"{len(part)} classes"


def _hover(part: Sequence[int], names: list[str], counts: list[int], groups: list[str]) -> str:
    first, last = part[0], part[-1]
    if len(part) == 1:
        return f"<b>{shown_name(names[first], 60)}</b><br>{counts[first]:,} labelled images, {groups[first]}-shot"
    return (
        f"<b>mean of {len(part)} classes</b><br>{shown_name(names[first])} … {shown_name(names[last])}"
        f"<br>{_between(counts[first], counts[last])} labelled images"
    )


def _between(most: int, fewest: int) -> str:
    return f"{most:,}" if most == fewest else f"{most:,}–{fewest:,}"
