"""Charts of one run as a whole: table -> figure."""

import plotly.graph_objects as go
import pyarrow as pa

from longtail.conf.palette import GROUP_COLOURS, NEUTRAL
from longtail.streaming.dashboard.class_figures import floats
from longtail.streaming.dashboard.style import (
    GROUP_DASHES,
    RUN_COLOURS,
    epoch_axis,
    fitted_share_axis,
    new_figure,
    share_axis,
)

ALL_DASH = "dot"
"""Of the line of all classes."""


def score_line(epochs: pa.Table, score: str, *, view: str) -> go.Figure:
    """A share over the epochs of one run and split, on an axis that fits it."""
    numbers, values = epochs["epoch"].to_pylist(), floats(epochs[score])
    figure = new_figure(height=300, view=view, x_axis=epoch_axis(numbers), y_axis=fitted_share_axis(values))
    figure.add_scatter(
        x=numbers, y=values, mode="lines+markers" if len(numbers) <= 12 else "lines", line={"color": RUN_COLOURS[3]},
        name=score,
        hovertemplate="epoch %{x}: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    return figure


def rank_line(epochs: pa.Table, *, view: str) -> go.Figure:
    """The mean rank of the other view of the same image over the epochs of a contrastive pre-training; 1 is best."""
    numbers = epochs["epoch"].to_pylist()
    figure = new_figure(height=300, view=view, x_axis=epoch_axis(numbers), y_axis={"nticks": 7, "type": "log"})
    figure.add_scatter(
        x=numbers, y=floats(epochs["positive_rank"]), mode="lines+markers" if len(numbers) <= 12 else "lines",
        line={"color": RUN_COLOURS[3]}, name="rank", hovertemplate="epoch %{x}: rank %{y:.1f}<extra></extra>",
    )  # fmt: skip
    return figure


def group_lines(epochs: pa.Table, *, view: str) -> go.Figure:
    """Accuracy of many, medium, few-shot and all classes over the epochs of one run and split."""
    numbers = epochs["epoch"].to_pylist()
    figure = new_figure(height=340, view=view, x_axis=epoch_axis(numbers), y_axis=share_axis())
    lines = [("all classes", "balanced_accuracy", NEUTRAL, ALL_DASH)]
    lines += [
        (f"{group}-shot", f"{group}_shot_accuracy", colour, GROUP_DASHES[group])
        for group, colour in GROUP_COLOURS.items()
    ]
    for name, column, colour, dash in lines:
        values = epochs[column]
        if values.null_count == len(values):  # a group without classes has no line
            continue
        figure.add_scatter(
            x=numbers, y=floats(values), name=name, mode="lines+markers" if len(numbers) <= 12 else "lines",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 6},
            hovertemplate=f"<b>{name}</b><br>epoch %{{x}}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    return figure
