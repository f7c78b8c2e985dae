"""Figure of what pseudo-labels gain by how many of them are right."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.figure import Figure

from longtail.conf.base.names import figure_label
from longtail.spark_jobs.display.palette import COLOURS, GRID_COLOUR
from longtail.spark_jobs.studies.label_gains import LabelGain, by_setting, fit_gains


def plot_label_gains(gains: Sequence[LabelGain]) -> Figure | None:
    """A dot per trial with pseudo-labels, and a least-squares line per setting; None without such trials."""
    if not gains:
        return None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="black", linewidth=0.8)
    for (name, of_setting), colour in zip(by_setting(gains).items(), cycle(COLOURS), strict=False):
        correct = [100 * gain.correct for gain in of_setting]
        points = [100 * gain.gain for gain in of_setting]
        axes.plot(correct, points, "o", color=colour, label=figure_label(name))
        if (fit := fit_gains(of_setting)) is not None:
            ends = [min(correct), max(correct)]
            axes.plot(ends, [100 * fit.intercept + fit.slope * end for end in ends], color=colour)
    axes.set_xlabel("correct pseudo-labels, %")
    axes.set_ylabel("gain over labels alone, points")
    axes.grid(color=GRID_COLOUR)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure
