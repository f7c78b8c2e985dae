"""Charts of the classes of one run: table -> figure.

Every function takes rows of the result tables for one run and split, the axis that determines which classes are shown
in which order, and the name of the view (style.new_figure).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from plotly.subplots import make_subplots

from longtail.conf.palette import NEUTRAL
from longtail.streaming.dashboard.class_axis import ClassAxis
from longtail.streaming.dashboard.style import (
    DASHES,
    SHARE_SCALE,
    colour_bar,
    epoch_axis,
    new_figure,
    plain_axes,
    share_axis,
    text_colour,
)

_ROW_PIXELS, _MAX_PIXELS, _MARGIN_PIXELS = 26, 460, 70
_MAX_ROWS_WITH_GAPS = 40
_MAX_CELLS_WITH_TEXT = 12
_COLOUR_BAR_SHARES = (0, 0.01, 0.05, 0.25, 0.5, 1)
_SHARES = {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.25, "showgrid": True}
SHARES_FROM_ZERO = {"tickformat": ".3~p", "rangemode": "tozero", "showgrid": True, "nticks": 6}
"""A horizontal axis of small shares, as long as the largest."""


def accuracy_by_epoch(
    class_epochs: pa.Table, axis: ClassAxis, *, column: str = "accuracy"
) -> tuple[np.ndarray, list[int]]:
    """((rows, epochs) mean accuracy, or a bound of its interval, NaN without images; the epochs)"""
    epochs, columns = np.unique(class_epochs["epoch"].to_numpy(), return_inverse=True)
    accuracies = floats(class_epochs[column])
    return axis.means(class_epochs["class_id"].to_numpy(), columns, accuracies, len(epochs)), epochs.tolist()


def accuracy_map(class_epochs: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """Heat map of classes (rows, head first) and epochs (columns); a cell without images is empty."""
    accuracies, epochs = accuracy_by_epoch(class_epochs, axis)
    texts, hovered = None, ""
    if not axis.is_banded:
        bounds = [accuracy_by_epoch(class_epochs, axis, column=f"accuracy_{end}")[0] for end in ("low", "high")]
        texts, hovered = _texts([list(map(interval_text, *row)) for row in zip(*bounds, strict=True)]), "%{text}"
    figure = new_figure(height=_height(axis), view=view, x_axis=epoch_axis(epochs), y_axis=head_first(axis))
    figure.add_heatmap(
        z=accuracies, x=epochs, y=list(range(len(axis))), zmin=0, zmax=1, colorscale=SHARE_SCALE,
        colorbar=colour_bar(), ygap=1 if len(axis) <= _MAX_ROWS_WITH_GAPS else 0, hoverongaps=False,
        customdata=np.repeat(_texts(axis.hovers)[:, None], len(epochs), axis=1),
        text=texts, hovertemplate=f"%{{customdata}}<br>epoch %{{x}}: %{{z:.1%}}{hovered}<extra></extra>",
    )  # fmt: skip
    return figure


def class_accuracy(latest: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """A point per class with its 95 % interval, or the mean of each band of classes.

    latest: the class_epochs of one epoch
    """
    ids = latest["class_id"].to_numpy()
    names = ("accuracy", "accuracy_low", "accuracy_high")
    accuracy, low, high = (axis.means_of_classes(ids, floats(latest[name])) for name in names)
    figure = new_figure(height=_height(axis), view=view, x_axis=_SHARES, y_axis=_with_room(axis))
    bars = {
        "type": "data", "symmetric": False, "array": high - accuracy, "arrayminus": accuracy - low, "color": NEUTRAL,
        "thickness": 2, "width": 0,
    }  # fmt: skip
    figure.add_scatter(
        y=list(range(len(axis))), x=accuracy, mode="markers", marker={"color": axis.colours, "size": 8},
        error_x=None if axis.is_banded else bars, customdata=axis.hovers, name="accuracy",
        text=[""] * len(axis) if axis.is_banded else list(map(interval_text, low, high)),
        hovertemplate="%{customdata}<br>%{x:.1%}%{text}<extra></extra>",
    )  # fmt: skip
    return figure


def interval_text(low: float, high: float) -> str:
    """The bounds of an interval as a tooltip shows them after the value; empty for NaN."""
    return "" if np.isnan(low) else f" (95 %: {low:.1%} to {high:.1%})"


def accuracy_lines(class_epochs: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """One line per class, coloured from head to tail; the tail is drawn last, on top.

    For long trainings each point is the mean of the last few epochs, since many noisy lines would hide each other.
    """
    accuracies, epochs = accuracy_by_epoch(class_epochs, axis)
    window = smoothing_window(len(epochs))
    hover = "epoch %{x}: %{customdata:.1%}" + (f"<br>mean of the last {window}: %{{y:.1%}}" if window > 1 else "")
    figure = new_figure(height=340, view=view, x_axis=epoch_axis(epochs), y_axis=share_axis())
    for row, values in enumerate(accuracies):
        figure.add_scatter(
            x=epochs, y=mean_of_last(values, window), customdata=values, mode=_line_mode(epochs),
            name=axis.names[row], line=class_line(axis, row), marker={"size": 5},
            hovertemplate=f"{axis.hovers[row]}<br>{hover}<extra></extra>",
        )  # fmt: skip
    return figure


def class_line(axis: ClassAxis, row: int) -> dict[str, Any]:
    """The line of a row of the axis: neighbours, whose colours are close, differ in their dashes."""
    return {"color": axis.colours[row], "width": 2, "dash": DASHES[row % len(DASHES)]}


def smoothing_window(num_epochs: int) -> int:
    """Number of epochs over which lines are averaged: 1 up to 20 epochs, then a tenth of them."""
    return 1 if num_epochs <= 20 else num_epochs // 10


def mean_of_last(values: np.ndarray, window: int) -> np.ndarray:
    """(epochs,) mean of each value and the window - 1 values before it, ignoring NaN; NaN where the value itself is."""
    valid = ~np.isnan(values)
    sums, counts = (np.concatenate([[0.0], np.cumsum(part)]) for part in (np.where(valid, values, 0.0), valid))
    first = np.maximum(np.arange(len(values)) + 1 - window, 0)
    with np.errstate(invalid="ignore"):
        means = (sums[1:] - sums[first]) / (counts[1:] - counts[first])
    return np.where(valid, means, np.nan)


def label_bias(latest: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """Share of the split's images that are predicted as each class (bars), and that are of the class (ticks).

    latest: the class_epochs of one epoch
    """
    class_ids = latest["class_id"].to_numpy()
    predicted, true = (
        axis.means_of_classes(class_ids, floats(latest[f"{kind}_share"])) for kind in ("predicted", "true")
    )
    rows = list(range(len(axis)))
    figure = new_figure(
        height=_height(axis), view=view, x_axis=SHARES_FROM_ZERO, y_axis=head_first(axis),
        layout={"bargap": 0.25 if len(axis) <= _MAX_ROWS_WITH_GAPS else 0},
    )  # fmt: skip
    hover = "%{customdata}<br>predicted %{x:.2%}, true %{text}<extra></extra>"
    figure.add_bar(
        y=rows, x=predicted, orientation="h", marker={"color": axis.colours, "line": {"width": 0}},
        name="share predicted", customdata=axis.hovers,
        text=[f"{share:.2%}" for share in true], textposition="none", hovertemplate=hover,
    )  # fmt: skip
    figure.add_scatter(
        y=rows, x=true, mode="markers", hoverinfo="skip", name="true share",
        marker={"symbol": "line-ns", "size": _row_height(axis) * 0.8, "line": {"width": 2, "color": NEUTRAL}},
    )  # fmt: skip
    return figure


def confusion_matrix(confusion: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """Row: true class; column: predicted class; cell: share of the row's images, empty if zero.

    Images predicted as a class that the axis does not show count in the denominator. The colour follows the square root
    of the share, which makes small shares visible.
    """
    size = len(axis)
    shares = confusion_shares(confusion, axis)
    seen = np.where(shares > 0, shares, np.nan)
    few, gap = size <= _MAX_CELLS_WITH_TEXT, 1 if size <= _MAX_ROWS_WITH_GAPS else 0
    names = axis.ticks() if axis.is_banded else {**axis.ticks(), "ticktext": _names_at(axis)}
    ends = {"tickvals": [0, size - 1], "ticktext": ["head", "tail"]} if size > _MAX_CELLS_WITH_TEXT else names
    figure = new_figure(
        height=_height(axis), view=view, x_axis={"title": {"text": "predicted", "standoff": 6}, **ends},
        y_axis={"autorange": "reversed", "showgrid": False, "title": {"text": "true"}, **names},
    )  # fmt: skip
    figure.add_heatmap(
        z=np.sqrt(seen), x=list(range(size)), y=list(range(size)), zmin=0, zmax=1, colorscale=SHARE_SCALE,
        showscale=not few, hoverongaps=False, xgap=gap, ygap=gap,
        colorbar=colour_bar(tickformat=None, tickvals=[s**0.5 for s in _COLOUR_BAR_SHARES],
                            ticktext=[f"{s:.0%}" for s in _COLOUR_BAR_SHARES]),
        meta={"power": 2},  # of z, for the table of the chart
        customdata=_texts([
            [f"{true}<br>predicted as<br>{guess}<br>{share:.1%}" for guess, share in zip(axis.hovers, row, strict=True)]
            for true, row in zip(axis.hovers, shares, strict=True)
        ]),
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    if few:
        shown = [(row, column) for row in range(size) for column in range(size) if shares[row, column] >= 0.005]
        figure.add_scatter(  # a heat map's own texts have one colour for all cells
            y=[row for row, _ in shown], x=[column for _, column in shown], mode="text", hoverinfo="skip",
            text=[f"{100 * shares[cell]:.0f}" for cell in shown],
            textfont={"size": 11, "color": [text_colour(shares[cell] ** 0.5) for cell in shown]},
        )  # fmt: skip
    return figure


def confusion_shares(confusion: pa.Table, axis: ClassAxis) -> np.ndarray:
    """(rows, rows) share of the images of a row's classes predicted as a column's classes, NaN without images."""
    size = len(axis)
    rows, columns = (axis.rows_of(confusion[f"{kind}_class"].to_numpy()) for kind in ("true", "predicted"))
    counts = floats(confusion["count"])
    in_row, in_cell = rows >= 0, (rows >= 0) & (columns >= 0)
    cells = np.bincount(rows[in_cell] * size + columns[in_cell], weights=counts[in_cell], minlength=size * size)
    whole = np.bincount(rows[in_row], weights=counts[in_row], minlength=size)
    with np.errstate(invalid="ignore"):
        return cells.reshape(size, size) / whole[:, None]


def pseudo_labels(pseudo: pa.Table, axis: ClassAxis, *, view: str, before: pa.Table | None = None) -> go.Figure:
    """Left: number of labelled and pseudo-labelled images of each class. Right, if known: confidence of the
    pseudo-labels, their mean and 10th to 90th percentile, and the mean of the previous round as hollow circles.

    pseudo: rows of pseudo_labels of one run and round; before: those of the previous round
    """
    has_confidence = pseudo["mean_confidence"].null_count < len(pseudo)
    figure = make_subplots(
        1, 1 + has_confidence, figure=new_figure(height=_height(axis), view=view), shared_yaxes=True,
        horizontal_spacing=0.06,
    )  # fmt: skip
    figure = plain_axes(figure)
    rows = list(range(len(axis)))

    def column(name: str, table: pa.Table = pseudo) -> np.ndarray:
        return axis.means_of_classes(table["class_id"].to_numpy(), floats(table[name]))

    series = (("labelled_count", "labels", NEUTRAL), ("pseudo_label_count", "pseudo-labels", axis.colours))
    for name, label, colour in series:
        figure.add_bar(
            x=column(name), y=rows, orientation="h", marker={"color": colour}, customdata=axis.hovers, name=label,
            hovertemplate=f"%{{customdata}}<br>%{{x:,.0f}} with {label}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.2, bargroupgap=0)
    images = {"title": {"text": "images", "standoff": 6}, "rangemode": "tozero", "nticks": 5, "showgrid": True}
    figure.update_xaxes(**images, row=1, col=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, **axis.ticks())
    if not has_confidence:
        return figure
    mean, low, high = column("mean_confidence"), column("confidence_p10"), column("confidence_p90")
    figure.add_scatter(
        x=mean, y=rows, mode="markers", marker={"color": axis.colours, "size": 8}, customdata=axis.hovers,
        name="mean confidence",
        error_x={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low, "width": 0,
                 "thickness": 2, "color": NEUTRAL},
        hovertemplate="%{customdata}<br>mean confidence %{x:.1%}<extra></extra>", row=1, col=2,
    )  # fmt: skip
    if before is not None:
        figure.add_scatter(
            x=column("mean_confidence", before), y=rows, mode="markers", customdata=axis.hovers,
            name="mean confidence in the previous round",
            marker={"symbol": "circle-open", "color": NEUTRAL, "size": 9, "line": {"width": 2}},
            hovertemplate="%{customdata}<br>previous round: %{x:.1%}<extra></extra>", row=1, col=2,
        )  # fmt: skip
    confidence = {"title": {"text": "confidence", "standoff": 6}, "range": [0, 1.02], "tickformat": ".0%"}
    figure.update_xaxes(**confidence, showgrid=True, row=1, col=2)
    return figure


def pseudo_label_quality(class_epochs: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """Precision (left) and recall (right) of the pseudo-labels over the epochs, one line per class.

    class_epochs: those of the split `unlabeled`
    """
    figure = make_subplots(
        1, 2, figure=new_figure(height=340, view=view), shared_yaxes=True, horizontal_spacing=0.06
    )  # fmt: skip
    figure = plain_axes(figure)
    epochs, columns = np.unique(class_epochs["epoch"].to_numpy(), return_inverse=True)
    class_ids, window = class_epochs["class_id"].to_numpy(), smoothing_window(len(epochs))
    for column, (name, title) in enumerate((("precision", "precision"), ("accuracy", "recall")), start=1):
        shares = axis.means(class_ids, columns, floats(class_epochs[name]), len(epochs))
        for row, values in enumerate(shares):
            figure.add_scatter(
                x=epochs, y=mean_of_last(values, window), customdata=values, mode=_line_mode(epochs),
                name=f"{axis.names[row]}: {title}", line=class_line(axis, row), marker={"size": 5},
                hovertemplate=f"{axis.hovers[row]}<br>epoch %{{x}}: {title} %{{customdata:.1%}}<extra></extra>",
                row=1, col=column,
            )  # fmt: skip
        figure.update_xaxes(**epoch_axis(epochs.tolist()), row=1, col=column)
        figure.update_xaxes(title={"text": f"epoch: {title}"}, row=1, col=column)
    figure.update_yaxes(**share_axis())
    return figure


def pseudo_label_classes(latest: pa.Table, axis: ClassAxis, *, view: str) -> go.Figure:
    """Precision (filled) and recall (hollow) of the pseudo-labels of each class, or the means of each band.

    latest: class_epochs of the split `unlabeled` at one epoch
    """
    ids, rows = latest["class_id"].to_numpy(), list(range(len(axis)))
    figure = new_figure(height=_height(axis), view=view, x_axis=_SHARES, y_axis=_with_room(axis))
    for column, name, symbol in (("precision", "precision", "circle"), ("accuracy", "recall", "diamond-open")):
        figure.add_scatter(
            y=rows, x=axis.means_of_classes(ids, floats(latest[column])), mode="markers", customdata=axis.hovers,
            name=name,
            marker={"color": axis.colours, "size": 9, "symbol": symbol, "line": {"width": 2}},
            hovertemplate=f"%{{customdata}}<br>{name} %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    return figure


def head_first(axis: ClassAxis) -> dict[str, Any]:
    """A vertical axis of the classes."""
    return {"autorange": "reversed", "showgrid": False, **axis.ticks()}


def _with_room(axis: ClassAxis) -> dict[str, Any]:
    """The same where points do not fill the rows."""
    return {"range": [len(axis) - 0.5, -0.5], "showgrid": False, **axis.ticks()}


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """A column as float64, NaN where it is null."""
    return column.cast(pa.float64()).to_numpy()


def _height(axis: ClassAxis) -> int:
    return _MARGIN_PIXELS + min(_MAX_PIXELS, max(4, len(axis)) * _ROW_PIXELS)


def _row_height(axis: ClassAxis) -> float:
    return (_height(axis) - _MARGIN_PIXELS) / max(4, len(axis))


def _texts(texts: list) -> np.ndarray:
    """As an array, because plotly would inspect every cell of nested lists."""
    return np.array(texts, dtype=object)


def _line_mode(epochs: Sequence[int] | np.ndarray) -> str:
    return "lines+markers" if len(epochs) <= 12 else "lines"


def _names_at(axis: ClassAxis) -> list[str]:
    """Names without the counts, which the other charts show."""
    return [axis.names[row] for row in axis.ticks()["tickvals"]]
