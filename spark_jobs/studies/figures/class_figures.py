"""Figures of classes: accuracy and confusion."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longtail.conf.base.names import figure_label
from longtail.conf.palette import GROUP_COLOURS
from longtail.spark_jobs.display.palette import GRID_COLOUR
from longtail.spark_jobs.studies.arms import Arm
from longtail.spark_jobs.studies.figures.panels import panels_for
from longtail.spark_jobs.studies.trial_row import Row

MAX_CLASSES = 30
"""Classes that can be labelled legibly."""
MAX_CELLS = 100
"""Rows and columns of a confusion matrix."""
PERCENT = Normalize(0, 100)


def plot_classes(arms: Sequence[Arm]) -> Figure:
    """Test accuracy as an image: a row per arm, a column per class from head to tail."""
    labelled = _labelled_row(arms)
    counts, names = labelled["class_counts"], labelled["class_names"]
    order = _head_to_tail(arms)
    shares = np.array([arm.class_means("class_accuracy") for arm in arms], dtype=float)[:, order]
    figure = Figure(figsize=(9, 1.6 + 0.4 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, cmap="cividis", norm=PERCENT, aspect="auto")
    if len(order) <= MAX_CLASSES:
        axes.set_xticks(range(len(order)), [f"{figure_label(names[i])}\n{counts[i]}" for i in order], fontsize=8)
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                # Black text on the light half of the colour scale.
                colour = "black" if share > 0.5 else "white"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_yticks(range(len(arms)), [arm.label for arm in arms], fontsize=9)
    axes.set_xlabel("class and number of labelled images, from head to tail")
    figure.colorbar(image, ax=axes, label="test accuracy, %")
    return figure


def plot_bars(arms: Sequence[Arm]) -> Figure | None:
    """Test accuracy per class: a panel per arm, a bar per class from head to tail, coloured by shot group.

    None for more than MAX_CLASSES classes.
    """
    order = _head_to_tail(arms)
    if len(order) > MAX_CLASSES:
        return None
    names = arms[0].rows[0]["class_names"]
    figure, panels = panels_for(len(arms), width=3.2, height=2.3, sharey=True)
    for axes, arm in zip(panels, arms, strict=True):
        means, deviations = arm.class_means("class_accuracy"), arm.class_deviations("class_accuracy")
        groups = arm.rows[0]["shot_groups"]
        for position, class_id in enumerate(order):
            if (mean := means[class_id]) is not None:
                error = 100 * (deviations[class_id] or 0.0)
                axes.bar(position, 100 * mean, yerr=error, capsize=2, color=GROUP_COLOURS[groups[class_id]])
        axes.set_title(arm.label, fontsize=8)
        axes.set_xticks(range(len(order)), [figure_label(names[i]) for i in order], fontsize=6, rotation=90)
        axes.set_ylim(0, 105)
        axes.grid(axis="y", color=GRID_COLOUR)
        axes.set_axisbelow(True)
    patches = [Patch(color=colour, label=f"{group}-shot") for group, colour in GROUP_COLOURS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=8)
    figure.supylabel("test accuracy, %", fontsize=9)
    return figure


def plot_confusion(arms: Sequence[Arm]) -> Figure:
    """Confusion matrices, a panel per arm, in percent of each true class; of more than MAX_CELLS classes, of bands of
    neighbours from head to tail, whose single cells would be too small to be seen."""
    order = _head_to_tail(arms)
    bands = np.arange(len(order))
    if len(order) > MAX_CELLS:
        for number, part in enumerate(np.array_split(order, MAX_CELLS)):
            bands[part] = number
    figure, panels = panels_for(len(arms), width=3.2, height=3.1)
    for axes, arm in zip(panels, arms, strict=True):
        axes.imshow(100 * arm.confusion_shares(bands), cmap="cividis", norm=PERCENT)
        axes.set_title(arm.label, fontsize=8)
        _class_ticks(axes, arm)
    figure.colorbar(ScalarMappable(PERCENT, "cividis"), ax=panels, label="%", shrink=0.6)
    if len(order) > MAX_CELLS:
        figure.supylabel(f"{MAX_CELLS} bands of {len(order):,} classes, head first", fontsize=8)
    return figure


def _labelled_row(arms: Sequence[Arm]) -> Row:
    """A trial without pseudo-labels, whose class counts are those of the labels, if there is one."""
    return next((arm for arm in arms if arm.rows[0]["pseudo_label_accuracy"] is None), arms[0]).rows[0]


def _head_to_tail(arms: Sequence[Arm]) -> list[int]:
    counts = _labelled_row(arms)["class_counts"]
    return sorted(range(len(counts)), key=lambda class_id: -counts[class_id])


def _class_ticks(axes: Axes, arm: Arm) -> None:
    names = [figure_label(name) for name in arm.rows[0]["class_names"]]
    if len(names) > MAX_CLASSES:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_xticks(range(len(names)), names, fontsize=6, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=6)
