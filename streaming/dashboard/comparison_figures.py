"""Charts that compare arms, which are runs of one configuration: table -> figure."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from longtail.streaming.dashboard.class_axis import ClassAxis
from longtail.streaming.dashboard.class_figures import floats
from longtail.streaming.dashboard.phases import KeyFigure
from longtail.streaming.dashboard.style import (
    arm_style,
    chart_name,
    epoch_axis,
    new_figure,
    score_axis,
    see_through,
)
from longtail.streaming.tables.reading import rows_where

Arms = Mapping[str, Sequence[str]]
"""Names of runs by title of their arm, the reference first."""


def score_of_arms(epochs: pa.Table, arms: Arms, score: KeyFigure, *, view: str) -> go.Figure:
    """One score over the epochs: one line per arm, of several runs their mean with a band of one standard deviation.

    epochs: rows of `epochs` of one split
    """
    figure = new_figure(height=300, view=view)
    form = ".3f" if score.unit == "nats" else ".1%"
    drawn, numbers = [np.empty(0)], set()
    for index, (title, runs) in enumerate(arms.items()):
        at, means, spreads, counts = mean_and_spread(epochs, runs, score.column)
        numbers |= set(at)
        colour, dash = arm_style(index)
        drawn += [means - spreads, means + spreads]
        if len(runs) > 1:
            figure.add_scatter(
                x=[*at, *reversed(at)], y=np.concatenate([means + spreads, (means - spreads)[::-1]]), fill="toself",
                fillcolor=see_through(colour), line={"width": 0}, mode="lines", hoverinfo="skip",
            )  # fmt: skip
        of_many = f" ± %{{customdata[0]:{form}}} (%{{customdata[1]}} runs)" if len(runs) > 1 else ""
        figure.add_scatter(
            x=at, y=means, customdata=np.stack([spreads, counts], axis=1), name=chart_name(title, 200),
            mode="lines+markers" if len(at) <= 12 else "lines",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 5},
            hovertemplate=f"<b>{chart_name(title, 60)}</b><br>epoch %{{x}}: %{{y:{form}}}{of_many}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(**epoch_axis(sorted(numbers)))
    return figure.update_yaxes(**score_axis(np.concatenate(drawn), is_share=score.unit != "nats"))


def mean_and_spread(
    epochs: pa.Table, runs: Sequence[str], score: str
) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """(the E epochs that any of the runs has, (E,) means, (E,) standard deviations, (E,) number of runs); a run without
    the epoch or the score does not count, and the deviation of one run is 0."""
    parts = [rows_where(epochs, run=run) for run in runs]
    at = sorted({epoch for part in parts for epoch in part["epoch"].to_pylist()})
    values = np.full((len(parts), len(at)), np.nan)
    for row, part in zip(values, parts, strict=True):
        row[np.searchsorted(at, part["epoch"].to_numpy())] = floats(part[score])
    counts = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(values, axis=0) / np.where(counts, counts, np.nan)
        squares = np.nansum((values - means) ** 2, axis=0)
        spreads = np.where(counts > 1, np.sqrt(squares / np.maximum(counts - 1, 1)), 0.0)
    return at, means, spreads, counts


def class_changes(reference: np.ndarray, others: Mapping[str, np.ndarray], axis: ClassAxis, *, view: str) -> go.Figure:
    """Difference of each class's accuracy from the reference at the same epoch: one bar per class and arm.

    reference, others: (rows of the axis,) mean accuracies of an arm's runs, of the others by title
    """
    figure = new_figure(
        height=320, view=view, x_axis=axis.ticks(), y_axis={"tickformat": "+.0%", "zeroline": True, "nticks": 7},
        layout={"barmode": "group", "bargap": 0.25 if len(axis) <= 40 else 0},
    )  # fmt: skip
    columns = list(range(len(axis)))
    for index, (title, accuracies) in enumerate(others.items(), start=1):
        figure.add_bar(
            x=columns, y=accuracies - reference, name=chart_name(title, 200), marker={"color": arm_style(index)[0]},
            customdata=np.stack([reference, accuracies], axis=1), hovertext=axis.hovers,
            hovertemplate="%{hovertext}<br>%{customdata[0]:.1%} → %{customdata[1]:.1%}: "
            "<b>%{y:+.1%}</b><extra></extra>",
        )  # fmt: skip
    return figure
