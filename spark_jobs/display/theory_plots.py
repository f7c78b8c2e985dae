"""The plots of `theory`: measurements beside the predictions and bounds of the theorems.

Each function takes rows of RESULT_SCHEMA and returns a figure. Measurements are filled markers, predictions and bounds
are lines without markers. Each combination of the other parameters is a series, so every point of a grid is drawn.
"""

import math
from collections.abc import Callable, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from longtail.spark_jobs.display.palette import COLOURS, GRID_COLOUR
from longtail.training.theory.evaluation import PARAMETERS, Row

_SYMBOLS = {"rho_unlabeled": r"$\rho_U$", "delta": r"$\delta$", "epsilon": r"$\epsilon$", "sigma": r"$\sigma$"}
_MIN_ERROR = 1e-12
_COLOURS = COLOURS[:6]
"""Without black, the colour of predictions, and grey."""


def threshold_bias(rows: Sequence[Row]) -> Figure:
    """T1: bias of the learned threshold over D, in units of half the distance between the class means."""
    figure, axes = _figure(
        title="T1: training imbalance sets the bias of the threshold",
        x="D = p - q, difference of the precisions of pseudo-labels",
        y="bias of the threshold\n(unit: half the distance between the class means)",
    )
    differences = sorted({row["p"] - row["q"] for row in rows})
    axes.plot(differences, differences, color="black", linewidth=1.5, label="prediction: bias = D", zorder=1)
    all_series = _series(rows, along=("p", "q"))
    width = (differences[-1] - differences[0]) or 1
    for number, ((label, series), colour) in enumerate(zip(all_series.items(), cycle(_COLOURS), strict=False)):
        shift = (number - (len(all_series) - 1) / 2) * 0.015 * width  # side by side, so that no error bar hides another
        halves = [(row["mu1"] - row["mu2"]) / 2 for row in series]
        axes.errorbar(
            [row["p"] - row["q"] + shift for row in series],
            [row["mean"] / half for row, half in zip(series, halves, strict=True)],
            yerr=[row["std"] / half for row, half in zip(series, halves, strict=True)],
            fmt="o", markersize=5, capsize=4, linewidth=1.5, color=colour, zorder=2,
            label=f"measured: mean and standard deviation{label}",
        )  # fmt: skip
    _legend(figure, columns=1)
    return figure


def unlabeled_imbalance(rows: Sequence[Row]) -> Figure:
    """T1: probability of success over the imbalance of the unlabeled data, and its lower bound."""
    figure, axes = _figure(
        title="T1: unlabeled imbalance sets the probability of success",
        x=r"$\rho_U$, pseudo-positives over pseudo-negatives",
        y="probability that the threshold\nis within $\\delta$ of its prediction",
    )
    for (label, series), colour in zip(_series(rows, along=("rho_unlabeled",)).items(), cycle(_COLOURS), strict=False):
        _measured(axes, series, "rho_unlabeled", "empirical", ("low", "high"), colour, f"measured{label}")
        axes.plot(
            [row["rho_unlabeled"] for row in series],
            [row["bound"] for row in series],
            color=colour, linestyle="--", linewidth=1.5, label=f"lower bound{label}",
        )  # fmt: skip
    _log_axis(axes, rows, "rho_unlabeled")
    axes.axhspan(-0.15, 0, color="0.9", zorder=0)
    axes.text(
        0.02, -0.075, "a bound below 0 is vacuous",
        transform=axes.get_yaxis_transform(), va="center", color="0.3", fontsize=11,
    )  # fmt: skip
    axes.set_ylim(-0.15, 1.05)
    _legend(figure)
    return figure


def dimension(rows: Sequence[Row]) -> Figure:
    """T3: error of the classifier over the dimension, and the error bound, faint where it is vacuous."""
    figure, axes = _figure(
        title="T3: the error falls exponentially with the dimension",
        x="dimension of X",
        y=f"error of the classifier\n(share of samples; shown down to {_MIN_ERROR:g})",
    )
    # epsilon affects only the bound: of points that differ only in it, one measurement is drawn.
    for (label, alike), colour in zip(
        _series(rows, along=("dimension", "epsilon")).items(), cycle(_COLOURS), strict=False
    ):
        measured = list({row["dimension"]: row for row in alike}.values())
        _measured(axes, measured, "dimension", "mean", ("mean_low", "mean_high"), colour, f"measured mean{label}")
        bounds = _series(alike, along=("dimension",)).items()
        for (bound_label, series), linestyle in zip(bounds, cycle(("--", ":", "-.")), strict=False):
            for vacuous, strength in ((False, 1.0), (True, 0.3)):
                axes.plot(
                    [row["dimension"] for row in series],
                    _part(series, "error_bound", vacuous=vacuous),
                    color=colour, linestyle=linestyle, linewidth=1.8, alpha=strength,
                    label=None if vacuous else f"error bound{label}{bound_label}",
                )  # fmt: skip
    _log_axis(axes, rows, "dimension")
    axes.set_yscale("log")
    axes.set_ylim(_MIN_ERROR, 2)
    _legend(figure, title="bounds are faint where they are vacuous")
    return figure


PLOTS: dict[str, Callable[[Sequence[Row]], Figure]] = {
    "threshold_bias": threshold_bias,
    "unlabeled_imbalance": unlabeled_imbalance,
    "dimension": dimension,
}
"""By the name that a sweep gives under `plot`."""


def _series(rows: Sequence[Row], *, along: tuple[str, ...]) -> dict[str, list[Row]]:
    """Rows that differ only in the parameters `along`, ordered by these; by a label with the other parameters."""
    varied = [name for name in PARAMETERS if name not in along and len({row[name] for row in rows}) > 1]
    series: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: [row[name] for name in (*varied, *along)]):
        label = "".join(f", {_SYMBOLS.get(name, name)} = {row[name]:g}" for name in varied)
        series.setdefault(label, []).append(row)
    return series


def _figure(*, title: str, x: str, y: str) -> tuple[Figure, Axes]:
    # Without pyplot, whose figures are global state and whose backend may need a screen.
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=13)
    axes.set_xlabel(x, fontsize=12)
    axes.set_ylabel(y, fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(color=GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, *, columns: int = 2, title: str | None = None) -> None:
    # Below the axes, where it cannot hide a curve.
    figure.legend(loc="outside lower center", ncols=columns, fontsize=11, title=title, title_fontsize=11)


def _log_axis(axes: Axes, rows: Sequence[Row], name: str) -> None:
    """Make the x axis logarithmic, with a tick at each simulated value."""
    axes.set_xscale("log")
    axes.set_xticks(sorted({row[name] for row in rows}))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _part(series: Sequence[Row], name: str, *, vacuous: bool) -> list[float]:
    """Values of the part of a curve that is (not) vacuous, NaN elsewhere; segments between both parts are vacuous."""
    informative = [not row["vacuous"] for row in series]
    next_to_vacuous = [not all(informative[max(0, i - 1) : i + 2]) for i in range(len(informative))]
    shown = next_to_vacuous if vacuous else informative
    return [row[name] if is_shown else math.nan for row, is_shown in zip(series, shown, strict=True)]


def _measured(
    axes: Axes, series: Sequence[Row], x: str, y: str, interval: tuple[str, str], colour: str, label: str
) -> None:
    """Draw markers with the interval as error bar, which is mostly smaller than the marker."""
    low, high = interval
    errors = [[row[y] - row[low] for row in series], [row[high] - row[y] for row in series]]
    axes.errorbar(
        [row[x] for row in series], [row[y] for row in series], yerr=errors,
        fmt="o-", markersize=5, capsize=3, linewidth=1.2, color=colour, label=label,
    )  # fmt: skip
