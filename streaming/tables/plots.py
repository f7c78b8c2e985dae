"""Charts of the result tables for notebooks. matplotlib draws them; nothing is shown or saved here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from longtail.conf.vocabulary import SHOT_GROUPS

GROUP_COLOURS = dict(zip(SHOT_GROUPS, ("tab:cyan", "tab:orange", "tab:purple"), strict=True))


def accuracy_figure(epochs: Any) -> Figure:
    """Balanced accuracy and that of each shot group over the epochs of one run and split.

    epochs: `epochs` as a pandas DataFrame
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


def class_counts_figure(counts: Any) -> Figure:
    """Images of each class, labelled and unlabeled, on a logarithmic axis.

    counts: a pandas DataFrame with class_name and a column of counts for each bar
    """
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    bars = [name for name in counts.columns if name != "class_name"]
    for place, name in enumerate(bars):
        offset = (place - (len(bars) - 1) / 2) * 0.8 / len(bars)
        axes.bar([i + offset for i in range(len(counts))], counts[name], width=0.8 / len(bars), label=name)
    axes.set_xticks(range(len(counts)), counts["class_name"])
    axes.set(xlabel="class", ylabel="images", yscale="log")
    axes.legend()
    return figure


def gain_figure(compared: Any) -> Figure:
    """What a run gains over another by shot group, at each epoch.

    compared: streaming.queries.compared of one split, as a pandas DataFrame
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


def pseudo_label_figure(scores: Any) -> Figure:
    """Precision and recall of each class's pseudo-labels over the epochs of one run.

    scores: streaming.queries.pseudo_label_scores as a pandas DataFrame
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    names = scores.drop_duplicates("class_id").sort_values("class_id")
    for place, (class_id, name) in enumerate(zip(names["class_id"], names["class_name"], strict=True)):
        ordered = scores[scores["class_id"] == class_id].sort_values("epoch")
        colour = colormaps["viridis"](place / max(1, len(names) - 1))
        for axes, score in zip(both, ("precision", "recall"), strict=True):
            axes.plot(ordered["epoch"], 100 * ordered[score], color=colour, label=name)
    for axes, score in zip(both, ("precision", "recall"), strict=True):
        axes.set(xlabel="epoch", ylabel=f"{score} %", ylim=(0, 100))
    both[1].legend(fontsize="small")
    return figure


def images_figure(rows: Mapping[str, np.ndarray]) -> Figure:
    """Images in rows, each (N, height, width, channels) uint8, with the row's name before it."""
    num_columns = max(map(len, rows.values()))
    figure = Figure(figsize=(0.7 * num_columns + 1, 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), num_columns, squeeze=False)
    for of_row, (name, images) in zip(axes, rows.items(), strict=True):
        of_row[0].set_ylabel(name, rotation=0, horizontalalignment="right", verticalalignment="center")
        for axis in of_row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, image in zip(of_row, images, strict=False):
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray")
    return figure
