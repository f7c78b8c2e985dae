"""Charts of a stream that a run's checkpoint predicts (`longtail predict --stream`), table -> figure, and a note."""

import datetime

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.palette import NEUTRAL
from longtail.streaming.dashboard.class_axis import ClassAxis
from longtail.streaming.dashboard.class_figures import SHARES_FROM_ZERO, floats, head_first
from longtail.streaming.dashboard.style import RUN_COLOURS, new_figure, share_axis

_ROW_PIXELS, _MARGIN_PIXELS = 18, 110


def latest_stream(predictions: pa.Table) -> pa.Table:
    """The rows of the stream whose last window is the latest one. predictions: of one run"""
    last = predictions.group_by("stream", use_threads=False).aggregate([("window_start", "max")])
    last = last.sort_by([("window_start_max", "descending"), ("stream", "ascending")])
    return predictions.filter(pc.equal(predictions["stream"], last["stream"][0]))


def latest_window(stream: pa.Table) -> pa.Table:
    """The rows of its last window."""
    return stream.filter(pc.equal(stream["window_start"], pc.max(stream["window_start"])))


def window_note(stream: pa.Table, *, num_streams: int) -> str:
    """What the charts show."""
    window = latest_window(stream)
    starts = pc.max(window["window_start"]).as_py()
    start = datetime.datetime.fromtimestamp(starts, datetime.UTC)
    others = f" ({num_streams - 1} other streams have earlier ones)" if num_streams > 1 else ""
    return (
        f"{stream['stream'][0].as_py()}, window of {start:%Y-%m-%d %H:%M} UTC{others}, {pc.sum(window['predicted'])} "
        f"images. Bar: share that is predicted as each class; line: its share of the training images; point: estimate "
        f"of its true share, with the 95 % interval. By window: mean confidence, and share of novel images, which are "
        f"less confident than nearly all of the reference."
    )


def prediction_shares(window: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """Share of a window's images that are predicted as each class (bars), of the training images (ticks), and estimated
    (points with intervals); means of bands."""
    class_ids, rows = window["class_id"].to_numpy(), [*range(len(axis))]
    trained, predicted = (_shares(floats(window[name])) for name in ("train_count", "predicted"))

    def means(values: np.ndarray) -> np.ndarray:
        return axis.means_of_classes(class_ids, values)

    height = _MARGIN_PIXELS + _ROW_PIXELS * max(4, len(axis))
    figure = new_figure(height=height, view=view, x_axis=SHARES_FROM_ZERO, y_axis=head_first(axis))
    figure.add_bar(
        y=rows, x=means(predicted), orientation="h", marker={"color": axis.colours, "line": {"width": 0}},
        name="share predicted", customdata=axis.hovers,
        hovertemplate="%{customdata}<br>predicted %{x:.2%}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        y=rows, x=means(trained), mode="markers", customdata=axis.hovers, name="share of the training",
        hovertemplate="%{customdata}<br>of the training %{x:.2%}<extra></extra>",
        marker={"symbol": "line-ns", "size": _ROW_PIXELS * 0.8, "line": {"width": 2, "color": NEUTRAL}},
    )  # fmt: skip
    share, low, high = (means(floats(window[name])) for name in ("estimated_share", "share_low", "share_high"))
    figure.add_scatter(
        y=rows, x=share, mode="markers", marker={"color": RUN_COLOURS[1], "size": 8}, customdata=axis.hovers,
        name="estimated share",
        error_x={"type": "data", "symmetric": False, "array": high - share, "arrayminus": share - low, "width": 0,
                 "thickness": 2, "color": RUN_COLOURS[1]},
        hovertemplate="%{customdata}<br>estimated %{x:.2%}<extra></extra>",
    )  # fmt: skip
    return figure


def prediction_windows(stream: pa.Table, *, view: str) -> go.Figure:
    """Mean confidence, and share of novel images, over the windows of a stream."""
    names = ("predicted", "confidence_sum", "novel")
    sums = stream.group_by("window_start", use_threads=False).aggregate([(name, "sum") for name in names])
    sums = sums.filter(pc.greater(sums["predicted_sum"], 0)).sort_by("window_start")
    moments = [datetime.datetime.fromtimestamp(start, datetime.UTC) for start in sums["window_start"].to_pylist()]
    images = floats(sums["predicted_sum"])
    figure = new_figure(height=240, view=view, y_axis=share_axis())
    lines = (("mean confidence", "confidence_sum", NEUTRAL, "solid"), ("novel images", "novel", RUN_COLOURS[2], "dash"))
    for name, column, colour, dash in lines:
        figure.add_scatter(
            x=moments, y=floats(sums[f"{column}_sum"]) / images, name=name, mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 6}, customdata=images,
            hovertemplate=f"<b>{name}</b><br>%{{x}}: %{{y:.1%}} of %{{customdata:,.0f}} images<extra></extra>",
        )  # fmt: skip
    return figure


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), np.nan)
