"""The axis that all charts of classes share: from the class with the most labelled images to the one with the fewest.

Pseudo-labels do not count, as in the shot groups, so that the axis is the same with and without them. If there are more
classes than a chart has room for, neighbours are combined to bands of equal size that show the mean of their classes. A
filter on the page selects single classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.dashboard.style import chart_name, head_tail_colour

MAX_NAMED_ROWS = 25
NAMED_OF_MANY = 9
"""Up to MAX_NAMED_ROWS rows each have a name at the axis; of more rows NAMED_OF_MANY have one."""


@dataclass(frozen=True)
class ClassAxis:
    """The rows of a chart, head first.

    class_ids: (C,) int64, from most to fewest labelled images
    band: (C,) int64, the row of each of them, from 0, increasing
    names, counts: a row's class and number of labelled images, as text; hovers: its tooltip
    positions: a row's position from head (0) to tail (1) among all classes of the run
    """

    class_ids: np.ndarray
    band: np.ndarray
    names: list[str]
    counts: list[str]
    hovers: list[str]
    positions: list[float]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_banded(self) -> bool:
        """Whether neighbouring classes share a row."""
        return len(self.names) < len(self.class_ids)

    @property
    def colours(self) -> list[str]:
        """Colour of each row, from head to tail."""
        return [head_tail_colour(position) for position in self.positions]

    def ticks(self) -> dict[str, Any]:
        """Positions and texts of the names at the axis: of all rows, or of some that include the first and the last."""
        rows = list(range(len(self)))
        if len(self) > MAX_NAMED_ROWS:
            rows = np.unique(np.linspace(0, len(self) - 1, NAMED_OF_MANY).round().astype(int)).tolist()
        return {"tickvals": rows, "ticktext": [self._tick(row) for row in rows]}

    def _tick(self, row: int) -> str:
        ends = {0: "head  ", len(self) - 1: "tail  "} if self.is_banded else {}
        name = ends.get(row, "") if self.is_banded else f"{self.names[row]}  "
        return f"<b>{name}</b>{self.counts[row]}"

    def rows_of(self, class_ids: np.ndarray) -> np.ndarray:
        """The row of each class, -1 for a class that the axis does not show."""
        if not len(self.class_ids):
            return np.full(len(class_ids), -1)
        by_id = np.argsort(self.class_ids)
        found = np.searchsorted(self.class_ids, class_ids, sorter=by_id).clip(max=len(by_id) - 1)
        index = by_id[found]
        return np.where(self.class_ids[index] == class_ids, self.band[index], -1)

    def means(self, class_ids: np.ndarray, columns: np.ndarray, values: np.ndarray, num_columns: int) -> np.ndarray:
        """(rows, num_columns) mean of the values of each row's classes in each column, NaN where there are none.

        class_ids, columns, values: (N,); NaN values are ignored
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
    """The axis of the classes of one run.

    classes: class_id, class_name, shot_group, train_count, pseudo_label_count (part of the former), one row per class
    group, name_part: only classes of this shot group, and whose name contains name_part (ignoring case)
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
    num_rows = min(len(ranks), max_rows)
    parts = [part.tolist() for part in np.array_split(np.arange(len(ranks)), num_rows)] if num_rows else []
    return ClassAxis(
        class_ids=shown["class_id"].to_numpy(),
        band=np.repeat(np.arange(len(parts)), [len(part) for part in parts]).astype(int),
        names=[_band_name(part, names) for part in parts],
        counts=[_count_range(counts[part[0]], counts[part[-1]]) for part in parts],
        hovers=[_tooltip(part, names, counts, groups) for part in parts],
        positions=[float(ranks[part].mean() / max(num_all - 1, 1)) for part in parts],
    )


def _band_name(part: Sequence[int], names: list[str]) -> str:
    return chart_name(names[part[0]]) if len(part) == 1 else f"{len(part)} classes"


def _tooltip(part: Sequence[int], names: list[str], counts: list[int], groups: list[str]) -> str:
    first, last = part[0], part[-1]
    if len(part) == 1:
        images = images_text(f"{counts[first]:,}", "labelled")
        return f"<b>{chart_name(names[first], 60)}</b><br>{images}, {groups[first]}-shot"
    return (
        f"<b>mean of {len(part)} classes</b><br>{chart_name(names[first])} … {chart_name(names[last])}"
        f"<br>{images_text(_count_range(counts[first], counts[last]), 'labelled')}"
    )


def images_text(count: str, kind: str = "") -> str:
    """A row's number of images (ClassAxis.counts), with the word and their kind: "1 labelled image"."""
    return " ".join(filter(None, (count, kind, "image" if count == "1" else "images")))


def _count_range(most: int, fewest: int) -> str:
    return f"{most:,}" if most == fewest else f"{most:,}–{fewest:,}"
