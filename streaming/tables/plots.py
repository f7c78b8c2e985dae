"""matplotlib figures of the result tables for notebooks. Nothing is shown or saved here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from longtail.conf.vocabulary import SHOT_GROUPS

if TYPE_CHECKING:
    import pandas as pd

GROUP_COLOURS = dict(zip(SHOT_GROUPS, ("tab:cyan", "tab:orange", "tab:purple"), strict=True))


def accuracy_figure(epochs: "pd.DataFrame") -> Figure:
    """Balanced accuracy and the accuracy of each shot group over the epochs of one run and split.

    epochs: rows of `epochs`
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    ordered = epochs.sort_values("epoch")
    axes.plot(ordered["epoch"], 100 * ordered["balanced_accuracy"], color="black", label="balanced")
    for group, colour in GROUP_COLOURS.items():
        axes.plot(ordered["epoch"], 100 * ordered[f"{group}_shot_accuracy"], color=colour, label=f"{group}-shot")
    axes.set(xlabel="epoch", ylabel="accuracy %", ylim=(0, 100))
    axes.legend()
    return figure


def class_counts_figure(counts: "pd.DataFrame") -> Figure:
    """Number of images of each class, on a logarithmic axis.

    counts: class_name, and one column of counts per series of bars
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    bars = [name for name in counts.columns if name != "class_name"]
    for index, name in enumerate(bars):
        offset = (index - (len(bars) - 1) / 2) * 0.8 / len(bars)
        axes.bar([i + offset for i in range(len(counts))], counts[name], width=0.8 / len(bars), label=name)
    axes.set_xticks(range(len(counts)), counts["class_name"])
    axes.set(xlabel="class", ylabel="images", yscale="log")
    axes.legend()
    return figure


def gain_figure(compared: "pd.DataFrame") -> Figure:
    """Gain in accuracy of one run over another at each epoch, by shot group.

    compared: streaming.queries.compared of one split
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    ordered = compared.sort_values("epoch")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.plot(ordered["epoch"], 100 * ordered["balanced_accuracy_gain"], color="black", label="balanced")
    for group, colour in GROUP_COLOURS.items():
        axes.plot(ordered["epoch"], 100 * ordered[f"{group}_shot_accuracy_gain"], color=colour, label=f"{group}-shot")
    axes.set(xlabel="epoch", ylabel="gain, points of accuracy")
    axes.legend()
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
