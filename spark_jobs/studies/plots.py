"""The figures of a report, each from the arms of an experiment; None where the rows have nothing to show."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longtail.conf.experiment import Experiment
from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.spark_jobs.studies.comparisons import SCORES, Arm
from longtail.spark_jobs.studies.curves import NumericAxis, numeric_axes
from longtail.spark_jobs.studies.feature_maps import FeatureMap

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's, which the colour-blind can tell apart."""
_GROUP_COLOURS = dict(zip(SHOT_GROUPS, ("#0072B2", "#E69F00", "#D55E00"), strict=True))
_CURVE_SCORES = ("balanced_accuracy", "few_shot_accuracy")
_MOST_PANELS = 12
_MOST_CLASSES = 30
_MOST_COLOURS = 20
_WIDE_RANGE = 10
"""Places that are further apart than this stand on a logarithmic axis."""


@dataclass(frozen=True)
class Drawn:
    """caption: what the figure shows, as the report's heading"""

    caption: str
    figure: Figure


def report_figures(experiment: Experiment, arms: Sequence[Arm], maps: Sequence[FeatureMap] = ()) -> dict[str, Drawn]:
    """All that there is something to draw for, by name. maps: of the arms that the experiment shows more of"""
    shown = shown_arms(experiment, arms)
    figures = {
        "arms": ("Balanced accuracy and its groups, mean and standard deviation over the seeds", plot_arms(arms)),
        **{
            f"curve_{number}": (f"{axis.axis}: accuracy by {axis.name}", plot_curve(axis, arms))
            for number, axis in enumerate(numeric_axes(experiment), start=1)
        },
        "classes": ("Accuracy by class, from head to tail, mean over the seeds", plot_classes(arms)),
        "bars": ("Accuracy by class and shot group, mean and standard deviation over the seeds", plot_bars(shown)),
        "confusion": ("Of the images of a class (row), the share predicted as a class (column)", plot_confusion(shown)),
        "pseudo_labels": (
            "Share of pseudo-labels that are right, and the balanced accuracy that came of them",
            plot_pseudo_labels(arms),
        ),
        "maps": ("Features of test images, mapped by t-SNE: what is near in the network's eyes", plot_maps(maps)),
    }
    return {name: Drawn(caption, figure) for name, (caption, figure) in figures.items() if figure is not None}


def shown_arms(experiment: Experiment, arms: Sequence[Arm]) -> list[Arm]:
    """Those that the experiment shows more of; if it names none, the first _MOST_PANELS."""
    named = [arm for levels in experiment.shown for arm in arms if levels.items() <= arm.levels.items()]
    return (named or list(arms))[:_MOST_PANELS]


def plot_arms(arms: Sequence[Arm]) -> Figure:
    """A dot per arm and group, with the standard deviation over the seeds."""
    figure = Figure(figsize=(9, 1.2 + 0.42 * len(arms)), layout="constrained")
    all_axes = figure.subplots(1, len(SCORES), sharex=True, sharey=True)
    places = range(len(arms))
    for axes, (score, name), colour in zip(all_axes, SCORES.items(), _COLOURS[: len(SCORES)], strict=True):
        present = [(place, arm) for place, arm in zip(places, arms, strict=True) if arm.mean(score) is not None]
        axes.errorbar(
            [100 * (arm.mean(score) or 0.0) for _, arm in present],
            [place for place, _ in present],
            xerr=[100 * (arm.deviation(score) or 0.0) for _, arm in present],
            fmt="o", color=colour, capsize=3,
        )  # fmt: skip
        axes.set_title(name, fontsize=10)
        axes.grid(axis="x", color="0.88")
    all_axes[0].set_yticks(places, [arm.label for arm in arms], fontsize=9)
    all_axes[0].invert_yaxis()
    all_axes[0].set_xlim(left=0)
    figure.supxlabel("test accuracy, %", fontsize=10)
    return figure


def plot_curve(axis: NumericAxis, arms: Sequence[Arm]) -> Figure | None:
    """A line per combination of the other axes' levels over the axis's numbers, with the standard deviation over the
    seeds; dashed: the levels without a number. None unless some line has two points."""
    lines: dict[tuple[str, ...], list[Arm]] = {}
    for arm in arms:
        lines.setdefault(tuple(level for of, level in arm.levels.items() if of != axis.axis), []).append(arm)
    if max(len(_on_curve(axis, of_line)) for of_line in lines.values()) < 2:
        return None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    all_axes = figure.subplots(1, len(_CURVE_SCORES))
    for axes, score in zip(all_axes, _CURVE_SCORES, strict=True):
        for (others, of_line), colour in zip(lines.items(), cycle(_COLOURS), strict=False):
            points = [arm for arm in _on_curve(axis, of_line) if arm.mean(score) is not None]
            axes.errorbar(
                [axis.places[arm.levels[axis.axis]] for arm in points],
                [100 * (arm.mean(score) or 0.0) for arm in points],
                yerr=[100 * (arm.deviation(score) or 0.0) for arm in points],
                fmt="o-", color=colour, capsize=3, label=", ".join(others) or axis.axis,
            )  # fmt: skip
            for arm in of_line:
                if (mean := arm.mean(score)) is not None and arm.levels[axis.axis] in axis.references:
                    name = ", ".join([*others, arm.levels[axis.axis]])
                    axes.axhline(100 * mean, color=colour, linestyle="--", label=name)
        places = axis.places.values()
        if min(places) > 0 and max(places) / min(places) >= _WIDE_RANGE:
            axes.set_xscale("log")
        axes.set(xlabel=axis.name, ylabel="test accuracy, %")
        axes.set_title(SCORES[score], fontsize=10)
        axes.grid(color="0.88")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _on_curve(axis: NumericAxis, arms: Sequence[Arm]) -> list[Arm]:
    """The arms with a number, by their number."""
    return sorted(
        (arm for arm in arms if arm.levels[axis.axis] in axis.places),
        key=lambda arm: axis.places[arm.levels[axis.axis]],
    )


def plot_classes(arms: Sequence[Arm]) -> Figure:
    """A row per arm, a column per class in the order of the labelled images."""
    labelled = _labelled_row(arms)
    counts, names = labelled["class_counts"], labelled["class_names"]
    order = _head_to_tail(arms)
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
    axes.set_yticks(range(len(arms)), [arm.label for arm in arms], fontsize=9)
    axes.set_xlabel("class and its labelled images, from head to tail")
    figure.colorbar(image, ax=axes, label="test accuracy, %")
    return figure


def plot_bars(arms: Sequence[Arm]) -> Figure | None:
    """A panel per arm, a bar per class from head to tail, coloured by shot group; None of many classes."""
    order = _head_to_tail(arms)
    if len(order) > _MOST_CLASSES:
        return None
    names = arms[0].rows[0]["class_names"]
    figure, panels = _panels(len(arms), width=3.2, height=2.3, sharey=True)
    for axes, arm in zip(panels, arms, strict=True):
        means, deviations = (of("class_accuracy") for of in (arm.class_means, arm.class_deviations))
        groups = arm.rows[0]["shot_groups"]
        for place, class_id in enumerate(order):
            if (mean := means[class_id]) is not None:
                error = 100 * (deviations[class_id] or 0.0)
                axes.bar(place, 100 * mean, yerr=error, capsize=2, color=_GROUP_COLOURS[groups[class_id]])
        axes.set_title(arm.label, fontsize=8)
        axes.set_xticks(range(len(order)), [names[i] for i in order], fontsize=6, rotation=90)
        axes.set_ylim(0, 105)
        axes.grid(axis="y", color="0.88")
        axes.set_axisbelow(True)
    patches = [Patch(color=colour, label=f"{group}-shot") for group, colour in _GROUP_COLOURS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=8)
    figure.supylabel("test accuracy, %", fontsize=9)
    return figure


def plot_confusion(arms: Sequence[Arm]) -> Figure:
    """A matrix per arm."""
    figure, panels = _panels(len(arms), width=3.2, height=3.1)
    image = None
    for axes, arm in zip(panels, arms, strict=True):
        image = axes.imshow(100 * arm.confusion_shares(), cmap="cividis", vmin=0, vmax=100)
        axes.set_title(arm.label, fontsize=8)
        _class_ticks(axes, arm)
    figure.colorbar(image, ax=panels, label="%", shrink=0.6)
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
        axes.plot(right, scores, "o", color=colour, label=arm.label)
    axes.set_xlabel("pseudo-labels that are right, %")
    axes.set_ylabel("balanced test accuracy, %")
    axes.grid(color="0.88")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def plot_maps(maps: Sequence[FeatureMap]) -> Figure | None:
    """A panel per trial, a dot per test image, coloured by class; of many classes by shot group. None without maps."""
    if not maps:
        return None
    figure, panels = _panels(len(maps), width=3.6, height=3.6)
    colours = {}
    for axes, mapped in zip(panels, maps, strict=True):
        names, numbers = mapped.class_names, mapped.labels
        if len(names) > _MOST_COLOURS:
            names = list(SHOT_GROUPS)
            numbers = np.array([names.index(mapped.shot_groups[label]) for label in mapped.labels])
        palette = colormaps["tab20" if len(names) > 10 else "tab10"].colors
        colours = dict(zip(names, palette[: len(names)], strict=True))
        for number, name in enumerate(names):
            these = mapped.places[numbers == number]
            axes.scatter(these[:, 0], these[:, 1], s=4, color=colours[name])
        axes.set_title(mapped.title, fontsize=8)
        axes.set(xticks=[], yticks=[])
    patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _panels(number: int, *, width: float, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, at most three in a row."""
    columns = min(3, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
    for axes in grid[number:]:
        axes.set_axis_off()
    return figure, grid[:number]


def _labelled_row(arms: Sequence[Arm]) -> dict:
    """A trial whose class counts are of labels alone, if there is one."""
    return next((arm for arm in arms if arm.rows[0]["pseudo_label_accuracy"] is None), arms[0]).rows[0]


def _head_to_tail(arms: Sequence[Arm]) -> list[int]:
    counts = _labelled_row(arms)["class_counts"]
    return sorted(range(len(counts)), key=lambda class_id: -counts[class_id])


def _class_ticks(axes: Axes, arm: Arm) -> None:
    names = arm.rows[0]["class_names"]
    if len(names) > _MOST_CLASSES:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_xticks(range(len(names)), names, fontsize=6, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=6)
