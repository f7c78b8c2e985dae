"""matplotlib figures of the result tables for notebooks. Nothing is shown or saved here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from longtail.conf.palette import GROUP_COLOURS
from longtail.conf.vocabulary import FEW, MANY, MEDIUM

if TYPE_CHECKING:
    import pandas as pd

_GROUP_LINES = {MANY: "-", MEDIUM: "-.", FEW: "--"}


def show_epochs(axes: Axes) -> None:
    """Name the horizontal axis; its ticks are whole epochs, of one epoch too."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def accuracy_figure(epochs: "pd.DataFrame") -> Figure:
    """Balanced accuracy and the accuracy of each shot group over the epochs of one run and split.

    epochs: rows of `epochs`
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    ordered = epochs.sort_values("epoch")
    axes.plot(ordered["epoch"], 100 * ordered["balanced_accuracy"], color="black", label="balanced", marker=".")
    for group, colour in GROUP_COLOURS.items():
        (line,) = axes.plot(ordered["epoch"], 100 * ordered[f"{group}_shot_accuracy"], _GROUP_LINES[group], marker=".")
        line.set(color=colour, label=f"{group}-shot")
    show_epochs(axes)
    axes.set(ylabel="accuracy %", ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=4)  # lines may be anywhere below
    return figure


def pseudo_label_figure(scores: "pd.DataFrame") -> Figure:
    """Precision and recall of the pseudo-labels of each class over the epochs of one run.

    scores: streaming.notebook_queries.pseudo_label_scores
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    names = scores.drop_duplicates("class_id").sort_values("class_id")
    for index, (class_id, name) in enumerate(zip(names["class_id"], names["class_name"], strict=True)):
        ordered = scores[scores["class_id"] == class_id].sort_values("epoch")
        colour = colormaps["viridis"](index / max(1, len(names) - 1))
        for axes, score in zip(both, ("precision", "recall"), strict=True):
            axes.plot(ordered["epoch"], 100 * ordered[score], color=colour, label=name, marker=".")
    for axes, score in zip(both, ("precision", "recall"), strict=True):
        show_epochs(axes)
        axes.set(ylabel=f"{score} %", ylim=(0, 100))
    both[1].legend(fontsize="small")
    return figure


def images_figure(rows: Mapping[str, np.ndarray]) -> Figure:
    """Images in labelled rows, each (N, height, width, channels) uint8."""
    num_columns = max(map(len, rows.values()))
    figure = Figure(figsize=(0.7 * num_columns + 1, 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), num_columns, squeeze=False)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name, rotation=0, horizontalalignment="right", verticalalignment="center")
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, image in zip(row, images, strict=False):
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray")
    return figure
