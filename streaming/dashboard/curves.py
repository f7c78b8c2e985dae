"""The curves of a training: loss and throughput, over epochs, steps or time: table -> figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from longtail.conf.palette import NEUTRAL
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.streaming.dashboard.class_figures import floats, mean_of_last
from longtail.streaming.dashboard.selection import STEP, TIME
from longtail.streaming.dashboard.style import RUN_COLOURS, epoch_axis, new_figure
from longtail.streaming.tables.reading import rows_where

SPLIT_STYLES = {
    TRAIN: (NEUTRAL, "solid"), VAL: (RUN_COLOURS[3], "dash"), TEST: (RUN_COLOURS[1], "solid"),
    UNLABELED: (RUN_COLOURS[2], "dot"),
}  # fmt: skip
"""Colour and dash by split."""


@dataclass(frozen=True)
class Curve:
    """A score of a split: x (n,) and values (n,), NaN where there is none."""

    split: str
    x: np.ndarray
    values: np.ndarray


def curves_of(epochs: pa.Table, steps: pa.Table, score: str, *, over: str) -> list[Curve]:
    """The curves of a score, one a split that has it.

    epochs, steps: those of one run, of all splits
    score: loss or images_per_second
    over: "" for epochs, STEP, or TIME, in minutes since the first epoch began
    """
    began = _began(epochs)
    num_steps = _most(steps["num_steps"])
    curves = []
    for split in SPLIT_STYLES:
        rows = rows_where(epochs, split=split).sort_by("epoch")
        x = floats(rows["epoch"])
        if over == TIME:
            x = (floats(rows["emitted_at"]) - began) / 60
        elif over == STEP:
            x = x * num_steps
            if split == TRAIN:  # every few seconds, instead of every epoch
                rows = steps.sort_by([("epoch", "ascending"), ("step", "ascending")])
                x = (floats(rows["epoch"]) - 1) * num_steps + floats(rows["step"])
        curves.append(Curve(split, x, floats(rows[score])))
    return [curve for curve in curves if not np.isnan(curve.values).all()]


def curve_figure(
    curves: Sequence[Curve],
    *,
    over: str,
    is_logarithmic: bool,
    is_smoothed: bool,
    form: str,
    view: str,
    from_zero: bool = False,
) -> go.Figure:
    """One line per split; smoothed, each point is the mean of the last tenth of the points.

    form: of the values in a tooltip, as in "%{y:.3f}"
    from_zero: whether the axis of values begins at 0
    """
    titles = {TIME: "minutes", STEP: "step"}
    epochs = sorted({int(epoch) for curve in curves for epoch in curve.x}) if not over else []
    figure = new_figure(
        height=300,
        view=f"{view} {over} {is_logarithmic}",
        x_axis=epoch_axis(epochs) if not over else {"title": {"text": titles[over], "standoff": 6}},
        # Throughput and learning rate from 0: where they hardly change, an axis of its own would show noise as if it
        # did, or values below 0.
        y_axis={
            "nticks": 7,
            "type": "log" if is_logarithmic else "linear",
            **(_from_zero(curves) if from_zero else {}),
        },
    )
    for curve in curves:
        colour, dash = SPLIT_STYLES[curve.split]
        values = mean_of_last(curve.values, max(1, len(curve.values) // 10) if is_smoothed else 1)
        at = {TIME: "%{x:.1f} min", STEP: "step %{x}"}.get(over, "epoch %{x}")
        figure.add_scatter(
            x=curve.x, y=values, name=curve.split, mode="lines+markers" if len(values) <= 12 else "lines",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 5},
            hovertemplate=f"<b>{curve.split}</b><br>{at}: {form}<extra></extra>",
        )  # fmt: skip
    return figure


def _from_zero(curves: Sequence[Curve]) -> dict[str, Any]:
    """The range of an axis from 0, with room for the points that lie on it."""
    top = max((float(np.nanmax(curve.values)) for curve in curves), default=0.0)
    return {"range": [-0.03 * top, 1.05 * top]} if 0 < top < np.inf else {"rangemode": "tozero"}


def _began(epochs: pa.Table) -> float:
    """When the first epoch began, as far as its duration tells."""
    if not len(epochs):
        return 0.0
    first = rows_where(epochs, epoch=min(epochs["epoch"].to_pylist()))
    return float(np.nanmin(floats(first["emitted_at"]) - np.nan_to_num(floats(first["epoch_seconds"]))))


def _most(column: pa.ChunkedArray) -> int:
    return max((value for value in column.to_pylist() if value), default=1)
