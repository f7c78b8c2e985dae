"""Charts of one run as a whole: table -> figure."""

import plotly.graph_objects as go
import pyarrow as pa

from longtail.streaming.dashboard.class_figures import floats
from longtail.streaming.dashboard.style import (
    GROUP_COLOURS,
    NEUTRAL,
    RUN_COLOURS,
    epoch_axis,
    fitted_share_axis,
    new_figure,
    share_axis,
)


def score_line(epochs: pa.Table, score: str, *, view: str) -> go.Figure:
    """A share over the epochs of one run and split, on an axis that fits it."""
    numbers, values = epochs["epoch"].to_pylist(), floats(epochs[score])
    figure = new_figure(height=300, view=view)
    figure.add_scatter(
        x=numbers, y=values, mode="lines+markers" if len(numbers) <= 12 else "lines", line={"color": RUN_COLOURS[3]},
        hovertemplate="epoch %{x}: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(**epoch_axis(numbers))
    return figure.update_yaxes(**fitted_share_axis(values))


def group_lines(epochs: pa.Table, *, view: str) -> go.Figure:
    """Accuracy of many, medium and few-shot classes over the epochs of one run and split; of all classes dashed."""
    numbers = epochs["epoch"].to_pylist()
    figure = new_figure(height=340, view=view)
    lines = [("all classes", "balanced_accuracy", NEUTRAL, "dash")]
    lines += [(f"{group}-shot", f"{group}_shot_accuracy", colour, "solid") for group, colour in GROUP_COLOURS.items()]
    for name, column, colour, dash in lines:
        values = epochs[column]
        if values.null_count == len(values):  # a group without classes has no line
            continue
        figure.add_scatter(
            x=numbers, y=floats(values), name=name, mode="lines+markers" if len(numbers) <= 12 else "lines",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 6},
            hovertemplate=f"<b>{name}</b><br>epoch %{{x}}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(**epoch_axis(numbers))
    figure.update_yaxes(**share_axis())
    return figure
