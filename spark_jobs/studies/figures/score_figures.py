"""Figures of scores: per arm, over a numeric axis, and against the accuracy of pseudo-labels."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.figure import Figure

from longtail.conf.palette import GROUP_COLOURS
from longtail.spark_jobs.display.palette import COLOURS, GRID_COLOUR
from longtail.spark_jobs.studies.arms import REPORTED_SCORES, Arm
from longtail.spark_jobs.studies.numeric_axes import NumericAxis

LOG_SCALE_RANGE = 10
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""
_SCORE_COLOURS = {
    "balanced_accuracy": "black", **{f"{group}_shot_accuracy": colour for group, colour in GROUP_COLOURS.items()},
}  # fmt: skip
_CURVE_SCORES = ("balanced_accuracy", "few_shot_accuracy")


def plot_scores(arms: Sequence[Arm]) -> Figure:
    """Test accuracy, overall and per shot group: a dot per arm, with the standard deviation over the seeds."""
    figure = Figure(figsize=(9, 1.2 + 0.42 * len(arms)), layout="constrained")
    scores = {
        score: name for score, name in REPORTED_SCORES.items() if any(arm.mean(score) is not None for arm in arms)
    }
    # Each panel has the range of its values: shot groups differ by more than arms do.
    all_axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    rows = range(len(arms))
    for axes, (score, name) in zip(all_axes, scores.items(), strict=True):
        present = [(row, arm) for row, arm in zip(rows, arms, strict=True) if arm.mean(score) is not None]
        axes.errorbar(
            [100 * (arm.mean(score) or 0.0) for _, arm in present],
            [row for row, _ in present],
            xerr=[100 * (arm.deviation(score) or 0.0) for _, arm in present],
            fmt="o", color=_SCORE_COLOURS[score], capsize=3,
        )  # fmt: skip
        axes.set_title(name, fontsize=10)
        axes.grid(axis="x", color=GRID_COLOUR)
    all_axes[0].set_yticks(rows, [arm.label for arm in arms], fontsize=9)
    all_axes[0].invert_yaxis()
    figure.supxlabel("test accuracy, %", fontsize=10)
    return figure


def plot_curve(axis: NumericAxis, arms: Sequence[Arm]) -> Figure | None:
    """Test accuracy over a numeric axis: a line per combination of the other axes' levels, with the standard deviation
    over the seeds; dashed lines for levels without a number. None unless some line has two points."""
    lines: dict[tuple[str, ...], list[Arm]] = {}
    for arm in arms:
        lines.setdefault(tuple(level for name, level in arm.levels.items() if name != axis.axis), []).append(arm)
    if max(len(_with_number(axis, on_line)) for on_line in lines.values()) < 2:
        return None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    all_axes = figure.subplots(1, len(_CURVE_SCORES))
    for axes, score in zip(all_axes, _CURVE_SCORES, strict=True):
        for (others, on_line), colour in zip(lines.items(), cycle(COLOURS), strict=False):
            points = [arm for arm in _with_number(axis, on_line) if arm.mean(score) is not None]
            axes.errorbar(
                [axis.values[arm.levels[axis.axis]] for arm in points],
                [100 * (arm.mean(score) or 0.0) for arm in points],
                yerr=[100 * (arm.deviation(score) or 0.0) for arm in points],
                fmt="o-", color=colour, capsize=3, label=", ".join(others) or axis.axis,
            )  # fmt: skip
            for arm in on_line:
                if (mean := arm.mean(score)) is not None and arm.levels[axis.axis] in axis.references:
                    name = ", ".join([*others, arm.levels[axis.axis]])
                    axes.axhline(100 * mean, color=colour, linestyle="--", label=name)
        values = sorted({*axis.values.values()})
        if values[0] > 0 and values[-1] / values[0] >= LOG_SCALE_RANGE:
            axes.set_xscale("log")
        # At the levels alone: the powers of ten of a logarithmic axis are none of them.
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
        axes.set(xlabel=axis.name, ylabel="test accuracy, %")
        axes.set_title(REPORTED_SCORES[score], fontsize=10)
        axes.grid(color=GRID_COLOUR)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _with_number(axis: NumericAxis, arms: Sequence[Arm]) -> list[Arm]:
    """The arms whose level has a number, sorted by it."""
    return sorted(
        (arm for arm in arms if arm.levels[axis.axis] in axis.values),
        key=lambda arm: axis.values[arm.levels[axis.axis]],
    )


def plot_pseudo_labels(arms: Sequence[Arm]) -> Figure | None:
    """Accuracy of the pseudo-labels and resulting test accuracy: a dot per trial; None without pseudo-labels."""
    with_labels = [arm for arm in arms if arm.mean("pseudo_label_accuracy") is not None]
    if not with_labels:
        return None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for arm, colour in zip(with_labels, cycle(COLOURS), strict=False):
        correct = [100 * row["pseudo_label_accuracy"] for row in arm.rows]
        scores = [100 * row["balanced_accuracy"] for row in arm.rows]
        axes.plot(correct, scores, "o", color=colour, label=arm.label)
    axes.set_xlabel("correct pseudo-labels, %")
    axes.set_ylabel("balanced test accuracy, %")
    axes.grid(color=GRID_COLOUR)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure
