"""The panels of the page for the selected run and split: a note and charts each.

Adding a chart takes two files: a function that draws it (class_figures.py or run_figures.py), and an entry in PANELS
below.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.vocabulary import TRAIN
from longtail.streaming.dashboard.class_axis import ClassAxis, class_axis
from longtail.streaming.dashboard.class_figures import (
    accuracy_lines,
    accuracy_map,
    class_accuracy,
    confusion_matrix,
    floats,
    label_bias,
    pseudo_label_classes,
    pseudo_label_quality,
    pseudo_labels,
    smoothing_window,
)
from longtail.streaming.dashboard.comparison import arm_scores, arms_of, other_seeds
from longtail.streaming.dashboard.comparison_figures import class_changes, score_of_arms
from longtail.streaming.dashboard.configurations import options_in
from longtail.streaming.dashboard.curves import SPLIT_STYLES, curve_figure, curves_of
from longtail.streaming.dashboard.notes import RunNotes
from longtail.streaming.dashboard.phases import CONTRASTIVE, KindOfRun, kind_of_run, makes_pseudo_labels
from longtail.streaming.dashboard.prediction_figures import (
    latest_stream,
    latest_window,
    prediction_shares,
    prediction_windows,
    window_note,
)
from longtail.streaming.dashboard.rendering import render, render_note
from longtail.streaming.dashboard.run_figures import group_lines, score_line
from longtail.streaming.dashboard.selection import GROUPS, MAX_COMPARED, STEP, Selection
from longtail.streaming.dashboard.style import GROUP_COLOURS, NEUTRAL, RUN_COLOURS, RUN_DASHES, arm_style
from longtail.streaming.dashboard.table_rows import (
    ReadTable,
    Row,
    confident_in_steps,
    last_epoch,
    latest_round,
    previous_round,
    pseudo_labels_in_training,
)
from longtail.streaming.dashboard.values import largest_confusions
from longtail.streaming.tables.reading import rows_where

CLASS_COLUMNS = [
    "run", "split", "epoch", "class_id", "class_name", "shot_group", "train_count", "pseudo_label_count", "support",
    "predicted", "accuracy", "accuracy_low", "accuracy_high", "precision", "true_share", "predicted_share",
]  # fmt: skip
"""The columns of class_epochs that the charts use: of this large table the others are not read."""
_MAP_ROWS, _LINES, _BARS, _MATRIX_ROWS = 100, 12, 40, 50
"""Maximal numbers of rows per chart; of more classes neighbours are combined."""
MAX_BARS = 8
"""Compared arms that have bars of their classes; lines and rows of the table have all."""


@dataclass(frozen=True)
class ShownRun:
    """The selected run and split.

    rows, latest: its class_epochs on the split, and those of the latest epoch
    epochs: rows of `epochs` of all runs on the split
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
        row = self.run_rows[self.run]
        return bool(len(self.of_steps)) or makes_pseudo_labels(row["phase"], options_in(row["configuration"]))

    @property
    def epoch(self) -> int:
        """The last epoch of the shown run."""
        return last_epoch(self.rows)

    def axis(self, max_rows: int) -> ClassAxis:
        """The axis of the selected classes."""
        return class_axis(self.latest, max_rows=max_rows, group=self.selection.group, name_part=self.selection.classes)


Content = tuple[str, dict[str, go.Figure]]
"""HTML of a panel's note, and its charts by name."""


def _accuracy_map(shown: ShownRun) -> Content:
    axis = shown.axis(_MAP_ROWS)
    rows = (
        f"{len(axis.class_ids):,} classes in {len(axis)} bands of neighbouring classes, one row per band: their mean"
        if axis.is_banded
        else "One row per class"
    )
    note = f"{rows}, sorted by number of labelled images (shown at the left), the largest at the top."
    return render_note(note), {"accuracy_map": accuracy_map(shown.rows, axis, view=shown.view)}


def _class_accuracy(shown: ShownRun) -> Content:
    axis = shown.axis(_BARS)
    what = "mean of each band" if axis.is_banded else "and its 95 % interval: few images measure little"
    note = f"Epoch {shown.epoch}: accuracy on the {shown.split} set, {what}."
    return render_note(note), {"class_accuracy": class_accuracy(shown.latest, axis, view=shown.view)}


def _accuracy_lines(shown: ShownRun) -> Content:
    axis = shown.axis(_LINES)
    notes = []
    if axis.is_banded:
        notes.append(f"Each line is the mean of about {len(axis.class_ids) // len(axis)} classes of similar size.")
    if (window := smoothing_window(len(rows_where(shown.epochs, run=shown.run)))) > 1:
        notes.append(f"Each point is the mean of the last {window} epochs.")
    figure = accuracy_lines(shown.rows, axis, view=shown.view)
    return render_note(" ".join(notes), legend=_head_to_tail(axis)), {"accuracy_lines": figure}


def _group_lines(shown: ShownRun) -> Content:
    legend = [*((f"{group}-shot", colour) for group, colour in GROUP_COLOURS.items()), ("all classes", NEUTRAL)]
    figure = group_lines(rows_where(shown.epochs, run=shown.run), view=shown.view)
    return render_note("Mean accuracy of the classes in each group.", legend=legend), {"group_lines": figure}


def _label_bias(shown: ShownRun) -> Content:
    axis = shown.axis(_BARS)
    note = (
        f"Epoch {shown.epoch}: share of the {shown.split} set that is predicted as each class (bar), and that belongs "
        f"to it (line).{' Means of bands.' if axis.is_banded else ''}"
    )
    return render_note(note), {"label_bias": label_bias(shown.latest, axis, view=shown.view)}


def _confusion_matrix(shown: ShownRun) -> Content:
    confusion = rows_where(shown.read("confusion", shown.run), split=shown.split)
    axis = shown.axis(_MATRIX_ROWS)
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


def _pretraining(shown: ShownRun) -> Content:
    epochs = rows_where(shown.epochs, run=shown.run)
    if shown.kind is CONTRASTIVE:
        note = (
            "The share of views that are recognised: the other view of the same image outweighs all other images "
            "together. It is measured while the network learns, without labels; so is the loss, InfoNCE."
        )
    else:
        note = f"The task that the network learns without labels, on the {shown.split} set."
    figure = score_line(epochs, "accuracy", view=shown.view)
    return render_note(note), {"pretraining_task": figure}


def _curves(shown: ShownRun) -> Content:
    epochs, steps, selection = (*(shown.read(name, shown.run) for name in ("epochs", "steps")), shown.selection)
    over = selection.over if selection.over != STEP or len(steps) else ""
    figures, splits = {}, []
    for name, score, form in (("loss", "loss", "%{y:.4g}"), ("speed", "images_per_second", "%{y:,.0f} images/s")):
        curves = curves_of(epochs, steps, score, over=over)
        if name == "speed":  # all splits of an epoch have the speed of its training
            curves = [curve for curve in curves if curve.split == TRAIN] or curves[:1]
        else:
            splits = [curve.split for curve in curves]
        if curves:
            figures[name] = curve_figure(
                curves,
                over=over,
                is_logarithmic=selection.log and name == "loss",
                is_smoothed=selection.smooth,
                form=form,
                view=shown.view,
            )
    legend = [(split, SPLIT_STYLES[split][0]) for split in splits]
    note = render("curves.html", selection=selection, over=over, has_steps=bool(len(steps)), legend=legend)
    return (note, figures) if figures else ("", {})


def _pseudo_labels(shown: ShownRun) -> Content:
    """Those of the steps; otherwise those that the run's classifier made; otherwise those that it is trained on."""
    axis = shown.axis(_BARS)
    if shown.makes_pseudo_labels:
        of_steps = shown.of_steps
        latest = rows_where(of_steps, epoch=last_epoch(of_steps))
        note = render("pseudo_labels_of_steps.html", epoch=last_epoch(of_steps), is_known=bool(len(latest)))
        if not len(latest):
            return note, {}
        return note, {"pseudo_labels": pseudo_labels(confident_in_steps(latest), axis, view=shown.view)}
    labelled = latest_round(shown.read("pseudo_labels", shown.run))
    before = previous_round(labelled, shown.read) if len(labelled) else None
    trained_on = pseudo_labels_in_training(shown.latest)
    note = render(
        "pseudo_labels.html",
        labelled=bool(len(labelled)),
        trained_on=bool(len(trained_on)),
        banded=axis.is_banded,
        has_previous_round=before is not None,
        estimates=latest_round(shown.read("unlabeled_estimates", shown.run)).to_pylist(),
    )
    rows = labelled if len(labelled) else trained_on
    return note, {"pseudo_labels": pseudo_labels(rows, axis, view=shown.view, before=before)} if len(rows) else {}


def _pseudo_label_quality(shown: ShownRun) -> Content:
    rows = shown.of_steps
    if not len(rows):
        return "", {}
    lines, bars = shown.axis(_LINES), shown.axis(_BARS)
    note = (
        "Precision: the share of a class's pseudo-labels that are correct. Recall: the share of its unlabeled images "
        "with a correct pseudo-label. Only pseudo-labels confident enough to be learned count."
    )
    latest = rows_where(rows, epoch=last_epoch(rows))
    return render_note(note, legend=_head_to_tail(lines)), {
        "pseudo_label_quality": pseudo_label_quality(rows, lines, view=shown.view),
        "pseudo_label_classes": pseudo_label_classes(latest, bars, view=shown.view),
    }


def _predictions(shown: ShownRun) -> Content:
    """What the run's checkpoint predicts in a stream."""
    rows = shown.read("predictions", shown.run)
    if not len(rows):
        return render_note("No stream is predicted by this run's checkpoint: longtail predict --stream does that."), {}
    stream, num_streams = latest_stream(rows), len(rows["stream"].unique())
    legend = [("mean confidence", NEUTRAL), ("novel images", RUN_COLOURS[2]), ("estimated share", RUN_COLOURS[1])]
    return render_note(window_note(stream, num_streams=num_streams), legend=legend), {
        "prediction_shares": prediction_shares(latest_window(stream), shown.axis(_BARS), view=shown.view),
        "prediction_windows": prediction_windows(stream, view=shown.view),
    }


def _comparison(shown: ShownRun) -> Content:
    """Runs of the same classes at the latest epoch that all of them have finished."""
    wanted = [run for run in shown.selection.compare if run in shown.run_rows and run != shown.run]
    rows = {run: rows_where(shown.read("class_epochs", run), split=shown.split) for run in wanted}
    names = _class_names(shown.latest)
    comparable = [
        run
        for run in wanted
        if len(rows[run]) and _class_names(rows_where(rows[run], epoch=last_epoch(rows[run]))) == names
    ]
    runs = [shown.run, *comparable]
    epochs = shown.epochs.filter(pc.is_in(shown.epochs["run"], pa.array(runs)))
    common = set.intersection(*(set(rows_where(epochs, run=run)["epoch"].to_pylist()) for run in runs))
    epoch = max(common, default=None)
    figures, arms, scores = {}, [], []
    if comparable and epoch is not None:
        arms = arms_of([shown.run_rows[run] for run in runs], shown.notes)
        scores = arm_scores(epochs, arms, shown.kind.compared, epoch=epoch)
        lines = {arm.title: arm.runs for arm in arms}
        for name, figure in shown.kind.charts.items():
            figures[name] = score_of_arms(epochs, lines, figure, view=f"{shown.split} {runs}")
        axis = shown.axis(_BARS)
        of_epoch = {run: rows_where(of_run, epoch=epoch) for run, of_run in {**rows, shown.run: shown.rows}.items()}
        reference, *others = (_class_means([of_epoch[run] for run in arm.runs], axis) for arm in arms[:MAX_BARS])
        if others and shown.kind.has_classes:
            titles = [arm.title for arm in arms[1:MAX_BARS]]
            changes = dict(zip(titles, others, strict=True))
            figures["class_changes"] = class_changes(reference, changes, axis, view=f"{shown.view} {runs}")
    note = render(
        "comparison.html",
        arms=arms,
        scores=scores,
        looks=[arm_style(index) for index in range(len(arms))],
        dashes=RUN_DASHES,
        compared=shown.kind.compared,
        has_classes=shown.kind.has_classes,
        num_bars=MAX_BARS if shown.kind.has_classes else len(arms),
        has_seeds=any(len(arm.runs) > 1 for arm in arms),
        epoch=epoch,
        split=shown.split,
        left_out=[run for run in wanted if run not in comparable],
        num_others=len(shown.run_rows) - 1,
        seeds=other_seeds(shown.run, shown.run_rows)[:MAX_COMPARED],
        selection=shown.selection,
    )
    return note, figures


def _class_means(of_runs: Sequence[pa.Table], axis: ClassAxis) -> np.ndarray:
    """(rows,) mean accuracy of each row of the axis over these runs; of_runs: class_epochs of one epoch"""
    rows = pa.concat_tables(of_runs)
    return axis.means_of_classes(rows["class_id"].to_numpy(), floats(rows["accuracy"]))


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
    "pretraining": Panel("Pre-training", _pretraining, {"pretraining_task": ""}, "epochs"),
    "accuracy_map": Panel("Accuracy per class and epoch", _accuracy_map, {"accuracy_map": ""}, "class_epochs"),
    "curves": Panel("Loss and speed", _curves, {"loss": "loss", "speed": "images/s of the training"}, "epochs"),
    "class_accuracy": Panel(
        "Accuracy per class at the last epoch", _class_accuracy, {"class_accuracy": ""}, "class_epochs"
    ),
    "accuracy_lines": Panel("Accuracy from head to tail", _accuracy_lines, {"accuracy_lines": ""}, "class_epochs"),
    "group_lines": Panel("Accuracy of the shot groups", _group_lines, {"group_lines": ""}, "epochs"),
    "label_bias": Panel("Label bias", _label_bias, {"label_bias": ""}, "class_epochs"),
    "confusion_matrix": Panel("Confusion matrix", _confusion_matrix, {"confusion_matrix": ""}, "confusion"),
    "pseudo_labels": Panel("Pseudo-labels", _pseudo_labels, {"pseudo_labels": ""}),
    "pseudo_label_quality": Panel(
        "Precision and recall of pseudo-labels",
        _pseudo_label_quality,
        {
            "pseudo_label_quality": "over the epochs: precision (left) and recall (right)",
            "pseudo_label_classes": "at the last epoch, by class: precision (●) and recall (◇)",
        },
    ),
    "predictions": Panel(
        "Predictions of a stream",
        _predictions,
        {
            "prediction_shares": "share of the latest window's images, head to tail",
            "prediction_windows": "confidence and novel images by window",
        },
    ),
    "comparison": Panel(
        "Comparison of runs at the same epoch",
        _comparison,
        {
            "compared_balanced": "balanced accuracy",
            "compared_few": "accuracy of few-shot classes",
            "compared_loss": "loss",
            "compared_task": "recognised correctly",
            "class_changes": "difference in class accuracy from the first row, head to tail",
        },
    ),
}
"""By id, in the order of the page."""

CHARTS = [name for panel in PANELS.values() for name in panel.charts]


def _rarest_group(latest: pa.Table) -> str:
    present = set(latest["shot_group"].to_pylist())
    return next(group for group in reversed(GROUPS) if group in present)


def _class_names(classes: pa.Table) -> dict[int, str]:
    return dict(zip(classes["class_id"].to_pylist(), classes["class_name"].to_pylist(), strict=True))


def _head_to_tail(axis: ClassAxis) -> list[tuple[str, str]]:
    """Texts and colours of a legend: each class; of bands the first, one in the middle and the last."""
    if not axis.is_banded:
        return list(zip(map(unescape, axis.names), axis.colours, strict=True))
    rows = {0: "head: ", len(axis) // 2: "", len(axis) - 1: "tail: "}
    return [(f"{end}{axis.counts[row]} images", axis.colours[row]) for row, end in rows.items()]
