"""Charts of whole runs, and comparisons of runs: table -> figure."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from longtail.streaming.dashboard.class_axis import ClassAxis
from longtail.streaming.dashboard.class_figures import floats
from longtail.streaming.dashboard.style import (
    GROUP_COLOURS,
    NEUTRAL,
    RUN_COLOURS,
    RUN_DASHES,
    chart_name,
    epoch_axis,
    new_figure,
    share_axis,
)
from longtail.streaming.tables.reading import rows_where


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


def score_of_runs(epochs: pa.Table, runs: Sequence[str], score: str, *, view: str) -> go.Figure:
    """One score over the epochs, one line per run.

    epochs: rows of `epochs` of one split; score: the name of a column
    """
    figure = new_figure(height=260, view=view)
    numbers: set[int] = set()
    for run, colour, dash in zip(runs, RUN_COLOURS[: len(runs)], RUN_DASHES[: len(runs)], strict=True):
        of_run = rows_where(epochs, run=run)
        numbers |= set(of_run["epoch"].to_pylist())
        figure.add_scatter(
            x=of_run["epoch"].to_pylist(), y=floats(of_run[score]), name=chart_name(run, 200),
            mode="lines+markers" if len(of_run) <= 12 else "lines",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 5},
            hovertemplate=f"<b>{chart_name(run, 60)}</b><br>epoch %{{x}}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(**epoch_axis(sorted(numbers)))
    figure.update_yaxes(**share_axis())
    return figure


def class_changes(reference: pa.Table, others: dict[str, pa.Table], axis: ClassAxis, *, view: str) -> go.Figure:
    """Difference of each class's accuracy from the reference run at the same epoch: one bar per class and run.

    reference, others: class_epochs of one epoch, of the reference run and of the other runs by name
    """
    base = axis.means_of_classes(reference["class_id"].to_numpy(), floats(reference["accuracy"]))
    figure = new_figure(height=320, view=view)
    columns = list(range(len(axis)))
    for (run, latest), colour in zip(others.items(), RUN_COLOURS[1 : 1 + len(others)], strict=True):
        accuracies = axis.means_of_classes(latest["class_id"].to_numpy(), floats(latest["accuracy"]))
        figure.add_bar(
            x=columns, y=accuracies - base, name=chart_name(run, 200), marker={"color": colour},
            customdata=np.stack([base, accuracies], axis=1), hovertext=axis.hovers,
            hovertemplate="%{hovertext}<br>%{customdata[0]:.1%} → %{customdata[1]:.1%}: "
            "<b>%{y:+.1%}</b><extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25 if len(axis) <= 40 else 0)
    figure.update_xaxes(**axis.ticks())
    figure.update_yaxes(tickformat="+.0%", zeroline=True, nticks=7)
    return figure
