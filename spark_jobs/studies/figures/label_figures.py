"""Figure of what pseudo-labels gain by how many of them are right, and of theorem 1 beside the trials."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from longtail.conf.base.names import figure_label
from longtail.spark_jobs.display.palette import COLOURS, GRID_COLOUR
from longtail.spark_jobs.studies.label_gains import LabelGain, by_setting, fit_gains, fit_thresholds
from longtail.spark_jobs.studies.line_fit import LineFit


def plot_label_gains(gains: Sequence[LabelGain]) -> Figure | None:
    """A dot per trial with pseudo-labels, and a least-squares line per setting; None without such trials.

    Left its gain by the share of right labels, right its threshold by that of theorem 1, where these are known.
    """
    if not gains:
        return None
    known = [gain for gain in gains if gain.predicted is not None and gain.measured is not None]
    figure = Figure(figsize=(11 if known else 7, 4.5), layout="constrained")
    left, *right = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    # A setting has one colour in both, also where theorem 1 is known of some settings alone.
    colours = dict(zip(by_setting(gains), cycle(COLOURS), strict=False))
    left.axhline(0, color="black", linewidth=0.8)
    _draw(left, gains, lambda gain: (100 * gain.correct, 100 * gain.gain), fit_gains, colours, scale=100)
    left.set_xlabel("correct pseudo-labels, %")
    left.set_ylabel("gain over labels alone, points")
    for axes in right:
        _draw(axes, known, lambda gain: (gain.predicted, gain.measured), fit_thresholds, colours, scale=1)
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], color="black", linewidth=0.8, linestyle="--", label="theorem 1")
        axes.set_xlabel("p - q of the pseudo-labels (theorem 1)")
        axes.set_ylabel("measured threshold, half gaps")
    handles = {
        label: handle
        for axes in (left, *right)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _draw(
    axes: Axes,
    gains: Sequence[LabelGain],
    point: Callable[[LabelGain], tuple[float | None, float | None]],
    fit: Callable[[Sequence[LabelGain]], LineFit | None],
    colours: Mapping[str, str],
    *,
    scale: float,
) -> None:
    """scale: of both coordinates of `point` against those of the fit"""
    for name, of_setting in by_setting(gains).items():
        colour = colours[name]
        xs, ys = zip(*map(point, of_setting), strict=True)
        axes.plot(xs, ys, "o", color=colour, label=figure_label(name))
        if (line := fit(of_setting)) is not None:
            ends = [min(xs), max(xs)]
            axes.plot(ends, [scale * line.intercept + line.slope * end for end in ends], color=colour)
    axes.grid(color=GRID_COLOUR)
