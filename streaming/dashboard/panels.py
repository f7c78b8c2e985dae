"""The panels of the page for the selected run and split: a note and charts each.

Adding a chart takes two files: a function that draws it (class_figures.py or run_figures.py), and an entry in PANELS
below. A panel of another subject has its function in one of the other files of panels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from longtail.conf.palette import GROUP_COLOURS, NEUTRAL
from longtail.streaming.dashboard.class_figures import (
    accuracy_lines,
    accuracy_map,
    class_accuracy,
    confusion_matrix,
    label_bias,
    smoothing_window,
)
from longtail.streaming.dashboard.comparison_panel import comparison_panel
from longtail.streaming.dashboard.images_panel import images_panel
from longtail.streaming.dashboard.label_panels import predictions_panel, pseudo_label_quality_panel, pseudo_labels_panel
from longtail.streaming.dashboard.rendering import render, render_note
from longtail.streaming.dashboard.run_figures import ALL_DASH, group_lines
from longtail.streaming.dashboard.selection import GROUPS
from longtail.streaming.dashboard.shown_run import BARS, LINES, MAP_ROWS, MATRIX_ROWS, Content, ShownRun, head_to_tail
from longtail.streaming.dashboard.style import GROUP_DASHES
from longtail.streaming.dashboard.table_rows import last_epoch
from longtail.streaming.dashboard.training_panels import curves_panel, pretraining_panel
from longtail.streaming.dashboard.values import largest_confusions
from longtail.streaming.tables.reading import rows_where


def _accuracy_map(shown: ShownRun) -> Content:
    axis = shown.axis(MAP_ROWS)
    rows = (
        f"{len(axis.class_ids):,} classes in {len(axis)} bands of neighbouring classes, one row per band: their mean"
        if axis.is_banded
        else "One row per class"
    )
    note = f"{rows}, sorted by number of labelled images (shown at the left), the largest at the top."
    return render_note(note), {"accuracy_map": accuracy_map(shown.rows, axis, view=shown.view)}


def _class_accuracy(shown: ShownRun) -> Content:
    axis = shown.axis(BARS)
    what = "mean of each band" if axis.is_banded else "and its 95 % interval: few images measure little"
    of = "accuracy" if shown.kind.has_classes else "how often each answer of the task is recognised"
    note = f"Epoch {shown.epoch}: {of} on the {shown.split} set, {what}."
    return render_note(note), {"class_accuracy": class_accuracy(shown.latest, axis, view=shown.view)}


def _accuracy_lines(shown: ShownRun) -> Content:
    axis = shown.axis(LINES)
    notes = []
    if axis.is_banded:
        notes.append(f"Each line is the mean of about {len(axis.class_ids) // len(axis)} classes of similar size.")
    if (window := smoothing_window(len(shown.epochs))) > 1:
        notes.append(f"Each point is the mean of the last {window} epochs.")
    figure = accuracy_lines(shown.rows, axis, view=shown.view)
    return render_note(" ".join(notes), legend=head_to_tail(axis, are_lines=True)), {"accuracy_lines": figure}


def _group_lines(shown: ShownRun) -> Content:
    legend = [(f"{group}-shot", colour, GROUP_DASHES[group]) for group, colour in GROUP_COLOURS.items()]
    legend.append(("all classes", NEUTRAL, ALL_DASH))
    figure = group_lines(shown.epochs, view=shown.view)
    return render_note("Mean accuracy of the classes in each group.", legend=legend), {"group_lines": figure}


def _label_bias(shown: ShownRun) -> Content:
    axis = shown.axis(BARS)
    note = (
        f"Epoch {shown.epoch}: share of the {shown.split} set that is predicted as each class (bar), and that belongs "
        f"to it (line).{' Means of bands.' if axis.is_banded else ''}"
    )
    return render_note(note), {"label_bias": label_bias(shown.latest, axis, view=shown.view)}


def _confusion_matrix(shown: ShownRun) -> Content:
    confusion = rows_where(shown.read("confusion", shown.run), split=shown.split)
    axis = shown.axis(MATRIX_ROWS)
    group = shown.selection.group
    if group == "all" and shown.kind.has_classes:
        group = _rarest_group(shown.latest)
    note = render(
        "confusion.html",
        has_cells=bool(len(confusion)),
        has_classes=shown.kind.has_classes,
        split=shown.split,
        epoch=last_epoch(confusion),
        banded=axis.is_banded,
        group=group,
        confusions=largest_confusions(confusion, shown.latest, group=group, limit=5),
    )
    return note, {"confusion_matrix": confusion_matrix(confusion, axis, view=shown.view)} if len(confusion) else {}


@dataclass(frozen=True)
class Panel:
    """A panel of the page.

    show: makes its content
    charts: the names of its charts, with a caption for each if there are several
    table: the result table that they draw, which can be downloaded; empty for none
    """

    title: str
    show: Callable[[ShownRun], Content]
    charts: dict[str, str]
    table: str = ""


PANELS = {
    "pretraining": Panel(
        "Pre-training",
        pretraining_panel,
        {
            "task_accuracy": "task accuracy",
            "views_recognised": "views recognised",
            "positive_rank": "rank of the other view of the same image",
        },
        "epochs",
    ),
    "accuracy_map": Panel("Accuracy per class and epoch", _accuracy_map, {"accuracy_map": ""}, "class_epochs"),
    "curves": Panel(
        "Loss, learning rate and speed",
        curves_panel,
        {"loss": "loss", "learning_rate": "learning rate", "speed": "images/s of the training"},
        "epochs",
    ),
    "class_accuracy": Panel(
        "Accuracy per class at the last epoch", _class_accuracy, {"class_accuracy": ""}, "class_epochs"
    ),
    "accuracy_lines": Panel("Accuracy from head to tail", _accuracy_lines, {"accuracy_lines": ""}, "class_epochs"),
    "group_lines": Panel("Accuracy of the shot groups", _group_lines, {"group_lines": ""}, "epochs"),
    "label_bias": Panel("Label bias", _label_bias, {"label_bias": ""}, "class_epochs"),
    "confusion_matrix": Panel("Confusion matrix", _confusion_matrix, {"confusion_matrix": ""}, "confusion"),
    "images": Panel("Images", images_panel, {}),
    "pseudo_labels": Panel("Pseudo-labels", pseudo_labels_panel, {"pseudo_labels": ""}),
    "pseudo_label_quality": Panel(
        "Precision and recall of pseudo-labels",
        pseudo_label_quality_panel,
        {
            "pseudo_label_quality": "over the epochs: precision (left) and recall (right)",
            "pseudo_label_classes": "by class: precision (●) and recall (◇)",
        },
    ),
    "predictions": Panel(
        "Predictions of a stream",
        predictions_panel,
        {
            "prediction_shares": "share of the latest window's images, head to tail",
            "prediction_windows": "confidence and novel images by window",
        },
    ),
    "comparison": Panel(
        "Comparison of runs at the same epoch",
        comparison_panel,
        {
            "compared_balanced": "balanced accuracy",
            "compared_few": "accuracy of few-shot classes",
            "compared_loss": "loss",
            "compared_task": "task accuracy",
            "compared_views": "views recognised",
            "class_changes": "difference in class accuracy from the first row, head to tail",
        },
    ),
}
"""By id, in the order of the page."""

CHARTS = [name for panel in PANELS.values() for name in panel.charts]


def _rarest_group(latest: pa.Table) -> str:
    present = set(latest["shot_group"].to_pylist())
    return next(group for group in reversed(GROUPS) if group in present)
