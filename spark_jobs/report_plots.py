"""The figures of a report, each from the arms of an experiment; None where the rows have nothing to show."""

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spark_jobs.experiment_statistics import Arm

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's, which the colour-blind can tell apart."""
_GROUPS = {"balanced_accuracy": "all classes", "many_shot_accuracy": "many-shot",
           "medium_shot_accuracy": "medium-shot", "few_shot_accuracy": "few-shot"}  # fmt: skip
_MOST_CONFUSION = 12
_MOST_CLASSES = 30


def plot_arms(arms: Sequence[Arm]) -> Figure | None:
    """A dot per arm and group, with the standard deviation over the seeds."""
    figure = Figure(figsize=(9, 1.2 + 0.42 * len(arms)), layout="constrained")
    all_axes = figure.subplots(1, len(_GROUPS), sharex=True, sharey=True)
    places = range(len(arms))
    for axes, (score, name), colour in zip(all_axes, _GROUPS.items(), _COLOURS[: len(_GROUPS)], strict=True):
        present = [(place, arm) for place, arm in zip(places, arms, strict=True) if arm.mean(score) is not None]
        axes.errorbar(
            [100 * (arm.mean(score) or 0.0) for _, arm in present],
            [place for place, _ in present],
            xerr=[100 * (arm.deviation(score) or 0.0) for _, arm in present],
            fmt="o", color=colour, capsize=3,
        )  # fmt: skip
        axes.set_title(name, fontsize=10)
        axes.grid(axis="x", color="0.88")
    all_axes[0].set_yticks(places, [_label(arm) for arm in arms], fontsize=9)
    all_axes[0].invert_yaxis()
    all_axes[0].set_xlim(left=0)
    figure.supxlabel("test accuracy, %", fontsize=10)
    return figure


def plot_classes(arms: Sequence[Arm]) -> Figure | None:
    """A row per arm, a column per class in the order of the labelled images."""
    labelled = next((arm for arm in arms if arm.rows[0]["pseudo_label_accuracy"] is None), arms[0]).rows[0]
    counts, names = labelled["class_counts"], labelled["class_names"]
    order = sorted(range(len(counts)), key=lambda class_id: -counts[class_id])
    shares = np.array(
        [[arm.class_means("class_accuracy")[class_id] for class_id in order] for arm in arms], dtype=float
    )
    figure = Figure(figsize=(9, 1.6 + 0.4 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    if len(order) <= _MOST_CLASSES:
        axes.set_xticks(range(len(order)), [f"{names[i]}\n{counts[i]}" for i in order], fontsize=8)
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                # Dark text on the light half of the scale.
                colour = "black" if share > 0.5 else "white"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_yticks(range(len(arms)), [_label(arm) for arm in arms], fontsize=9)
    axes.set_xlabel("class and its labelled images, from head to tail")
    figure.colorbar(image, ax=axes, label="test accuracy, %")
    return figure


def plot_confusion(arms: Sequence[Arm]) -> Figure | None:
    """A matrix per arm, of the first _MOST_CONFUSION."""
    shown = arms[:_MOST_CONFUSION]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    image = None
    for axes, arm in zip(grid[: len(shown)], shown, strict=True):
        image = axes.imshow(100 * arm.confusion_shares(), cmap="cividis", vmin=0, vmax=100)
        axes.set_title(_label(arm), fontsize=8)
        _class_ticks(axes, arm)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=list(grid), label="%", shrink=0.6)
    return figure


def plot_pseudo_labels(arms: Sequence[Arm]) -> Figure | None:
    """A dot per trial with pseudo-labels; None if there is none."""
    labelled = [arm for arm in arms if arm.mean("pseudo_label_accuracy") is not None]
    if not labelled:
        return None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for arm, colour in zip(labelled, cycle(_COLOURS), strict=False):
        right = [100 * row["pseudo_label_accuracy"] for row in arm.rows]
        scores = [100 * row["balanced_accuracy"] for row in arm.rows]
        axes.plot(right, scores, "o", color=colour, label=_label(arm))
    axes.set_xlabel("pseudo-labels that are right, %")
    axes.set_ylabel("balanced test accuracy, %")
    axes.grid(color="0.88")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


PLOTS: dict[str, Callable[[Sequence[Arm]], Figure | None]] = {
    "arms": plot_arms,
    "classes": plot_classes,
    "confusion": plot_confusion,
    "pseudo_labels": plot_pseudo_labels,
}
"""By the name of the figure (spark_jobs/report_text.py)."""


def _label(arm: Arm) -> str:
    return ", ".join(arm.levels.values())


def _class_ticks(axes: Axes, arm: Arm) -> None:
    names = arm.rows[0]["class_names"]
    if len(names) > _MOST_CLASSES:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_xticks(range(len(names)), names, fontsize=6, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=6)
