"""matplotlib figures of the result tables for notebooks. Nothing is shown or saved here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
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
