"""The run and split that the page shows, as its panels get them."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa

from longtail.streaming.dashboard.class_axis import ClassAxis, class_axis, images_text
from longtail.streaming.dashboard.class_figures import class_line
from longtail.streaming.dashboard.configurations import options_in
from longtail.streaming.dashboard.notes import RunNotes
from longtail.streaming.dashboard.phases import KindOfRun, kind_of_run, makes_pseudo_labels
from longtail.streaming.dashboard.rendering import LegendEntry
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.table_rows import ReadTable, Row, last_epoch

CLASS_COLUMNS = [
    "run", "split", "epoch", "class_id", "class_name", "shot_group", "train_count", "pseudo_label_count", "support",
    "predicted", "accuracy", "accuracy_low", "accuracy_high", "precision", "true_share", "predicted_share",
]  # fmt: skip
"""The columns of class_epochs that the charts use: of this large table the others are not read."""
MAP_ROWS, LINES, BARS, MATRIX_ROWS = 100, 12, 40, 50
"""Maximal numbers of rows per chart; of more classes neighbours are combined."""


@dataclass(frozen=True)
class ShownRun:
    """The selected run and split.

    rows, latest: its class_epochs on the split, and those of the latest epoch
    epochs: its rows of `epochs` on the split
    of_steps: class_epochs of the pseudo-labels that it makes in every step (table_rows.labels_of_steps)
    run_rows: rows of `runs` by run, of all that may be compared
    read: reads the other tables
    notes: what else is known of the runs
    """

    run: str
    split: str
    rows: pa.Table
    latest: pa.Table
    epochs: pa.Table
    of_steps: pa.Table
    run_rows: Mapping[str, Row]
    selection: Selection
    read: ReadTable
    notes: RunNotes

    @property
    def view(self) -> str:
        """Changes with the data that charts show (style.new_figure)."""
        return f"{self.run} {self.split} {self.selection.group} {self.selection.classes}"

    @property
    def kind(self) -> KindOfRun:
        """What it is about."""
        return kind_of_run(self.run_rows[self.run]["phase"])

    @property
    def makes_pseudo_labels(self) -> bool:
        """Whether it makes pseudo-labels in every step."""
        return bool(len(self.of_steps)) or makes_pseudo_labels(self.run_rows[self.run]["phase"], self.options)

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options by name."""
        return options_in(self.run_rows[self.run]["configuration"])

    @property
    def epoch(self) -> int:
        """The last epoch of the shown run."""
        return last_epoch(self.rows)

    def axis(self, max_rows: int) -> ClassAxis:
        """The axis of the selected classes."""
        return class_axis(self.latest, max_rows=max_rows, group=self.selection.group, name_part=self.selection.classes)


Content = tuple[str, dict[str, go.Figure]]
"""HTML of a panel's note, and its charts by name."""


def head_to_tail(axis: ClassAxis, *, are_lines: bool) -> list[LegendEntry]:
    """The legend of a chart of classes: each class; of bands the first, one in the middle and the last.

    are_lines: whether the chart has a line per row (class_figures.class_line)
    """
    ends = {0: "head: ", len(axis) // 2: "", len(axis) - 1: "tail: "}
    rows = ends if axis.is_banded else range(len(axis))
    return [
        (
            f"{ends[row]}{images_text(axis.counts[row])}" if axis.is_banded else unescape(axis.names[row]),
            axis.colours[row],
            class_line(axis, row)["dash"] if are_lines else "",
        )
        for row in rows
    ]
