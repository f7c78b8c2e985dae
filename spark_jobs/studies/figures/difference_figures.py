"""Figure of paired differences with their intervals."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longtail.conf.base.names import figure_label
from longtail.spark_jobs.display.palette import COLOURS, GRID_COLOUR
from longtail.spark_jobs.studies.comparisons import Comparison
from longtail.spark_jobs.studies.findings import CANNOT_TELL, COMPARED_SCORES, GAIN, LOSS, verdict

_STYLES = {GAIN: (COLOURS[2], "o"), LOSS: (COLOURS[1], "s"), CANNOT_TELL: (COLOURS[7], "D")}
"""Colour and marker by verdict."""


def plot_differences(by_score: Mapping[str, Sequence[Comparison]]) -> Figure | None:
    """Paired differences: a panel per score, a row per level; mean with interval, and a small dot per pair.

    by_score: comparisons by score

    None without comparisons.
    """
    shown = {score: comparisons for score, comparisons in by_score.items() if comparisons}
    rows = list(dict.fromkeys(_row(comparison) for comparisons in shown.values() for comparison in comparisons))
    if not rows:
        return None
    figure = Figure(figsize=(9, 1.5 + 0.45 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (score, comparisons) in zip(panels, shown.items(), strict=True):
        axes.axvline(0, color="black", linewidth=0.8)
        for comparison in comparisons:
            position = rows.index(_row(comparison))
            colour, marker = _STYLES[verdict(comparison)]
            pairs = [100 * difference for difference in comparison.differences]
            axes.plot(pairs, [position + 0.22] * len(pairs), "|", color=colour, markersize=6, alpha=0.7)
            if comparison.low is not None and comparison.high is not None:
                ends = [100 * comparison.low, 100 * comparison.high]
                axes.plot(ends, [position, position], color=colour, linewidth=2.5, solid_capstyle="butt")
            axes.plot([100 * comparison.mean], [position], marker, color=colour, markersize=7)
        axes.set_title(COMPARED_SCORES[score], fontsize=10)
        axes.set_xlabel("difference, points", fontsize=9)
        axes.grid(axis="x", color=GRID_COLOUR)
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(rows)), [figure_label(name) for name in rows], fontsize=9)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=2.5, label=name)
        for name, (colour, marker) in _STYLES.items()
    ]
    handles.append(Line2D([], [], color="0.4", marker="|", linewidth=0, label="one pair of trials"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _row(comparison: Comparison) -> str:
    return f"{comparison.axis}: {comparison.level} - {comparison.against}"
