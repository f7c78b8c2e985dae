"""The style of all charts of the page: colours, font, axes.

Two colour scales have the same meaning in all charts, and colour-blind readers can distinguish their colours: shares
from 0 to 1 use Viridis; the position of a class between head and tail goes from blue over violet to orange, as in the
shot groups (conf/palette.py). Lines differ in their dashes, too. All colours are legible on light and dark grounds; the
colours of texts and grids are in CSS (page.css).
"""

from collections.abc import Mapping
from functools import cache
from html import escape
from types import MappingProxyType
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale, hex_to_rgb

from longtail.conf.palette import GROUP_COLOURS, NEUTRAL
from longtail.conf.vocabulary import FEW, MANY, MEDIUM

SHARE_SCALE = "Viridis"
RUN_COLOURS = (NEUTRAL, "#397131", "#01af0e", "#9c4676", "#c76ff2")
"""Colours of compared runs in their order, the reference first; as different as those of conf/palette.py."""
RUN_DASHES = {"solid": "none", "dash": "7 5", "dot": "3 3", "dashdot": "8 4 3 4", "longdash": "12 5"}
"""Plotly's names of dashes, and the same for SVG."""

GROUP_DASHES = {MANY: "solid", MEDIUM: "dashdot", FEW: "dash"}
DASHES = tuple(RUN_DASHES)

_HEAD_TO_TAIL = [bytes.fromhex(GROUP_COLOURS[group][1:]) for group in (MANY, MEDIUM, FEW)]
_NAME_LENGTH = 22
_LAYOUT: dict[str, Any] = {
    "template": "none",
    "autosize": True,
    "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "inherit", "size": 12},
    "showlegend": False,
    "hoverlabel": {"bgcolor": "#1d2127", "bordercolor": "#1d2127", "font": {"color": "#f2f4f7", "size": 12}},
    "dragmode": "zoom",
}
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_PLAIN: dict[str, Any] = {"automargin": True, "zeroline": False, "showline": False, "ticks": ""}
_X_AXIS = {**_PLAIN, "showgrid": False}
_Y_AXIS = {**_PLAIN, "showgrid": True, "ticklabelstandoff": 6}


def head_tail_colour(position: float) -> str:
    """The colour of a class at a position from 0 (most training images) to 1 (fewest)."""
    lower, upper = _HEAD_TO_TAIL[:2] if position < 0.5 else _HEAD_TO_TAIL[1:]
    part = 2 * position if position < 0.5 else 2 * position - 1
    mixed = (round(a + part * (b - a)) for a, b in zip(lower, upper, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def arm_style(index: int) -> tuple[str, str]:
    """Colour and dash of a compared line; they differ for the first 25 together, and for the first five each."""
    turns, colour = divmod(index, len(RUN_COLOURS))
    return RUN_COLOURS[colour], DASHES[(colour + turns) % len(DASHES)]


def text_colour(share: float) -> str:
    """Black or white, whichever is legible on the colour of a share on the SHARE_SCALE: a contrast of 4.5 or more."""
    positions, colours = _scale_points()
    channels = np.array([np.interp(share, positions, channel) for channel in colours])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#ffffff"


@cache
def _scale_points() -> tuple[np.ndarray, np.ndarray]:
    """(P,) positions on the SHARE_SCALE, and (3, P) the channels of their colours, from 0 to 1."""
    positions, colours = zip(*get_colorscale(SHARE_SCALE), strict=True)
    return np.array(positions), np.array([hex_to_rgb(colour) for colour in colours]).T / 255


def see_through(colour: str) -> str:
    """A colour #rrggbb for a band behind its line."""
    return f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.16)"


def chart_name(name: str, length: int = _NAME_LENGTH) -> str:
    """A name from the events for use in charts: shortened, and escaped because charts interpret some HTML."""
    return escape(name if len(name) <= length else f"{name[: length - 1]}…", quote=False)


def new_figure(
    *,
    height: int,
    view: str,
    x_axis: Mapping[str, Any] = _NOTHING,
    y_axis: Mapping[str, Any] = _NOTHING,
    layout: Mapping[str, Any] = _NOTHING,
) -> go.Figure:
    """An empty chart.

    height: in pixels; the width is that of the page
    view: identifies what the chart shows; new data for the same view leaves the zoom unchanged
    x_axis, y_axis, layout: what is different from plain axes, and from the layout of all charts
    """
    # In one piece: each later change of a layout costs a tenth of a whole chart.
    axes = {"xaxis": {**_X_AXIS, **x_axis}, "yaxis": {**_Y_AXIS, **y_axis}}
    return go.Figure(layout={**_LAYOUT, "height": height, "uirevision": view, **axes, **layout})


def plain_axes(figure: go.Figure) -> go.Figure:
    """Axes without frame and ticks, with horizontal grid lines only."""
    return figure.update_xaxes(**_X_AXIS).update_yaxes(**_Y_AXIS)


def epoch_axis(epochs: list[int]) -> dict[str, Any]:
    """A horizontal axis of whole epochs; of a single one, without those before and after it."""
    few = len(epochs) <= 12
    alone = {"range": [epochs[0] - 0.5, epochs[0] + 0.5]} if len(epochs) == 1 else {}
    return {"title": {"text": "epoch", "standoff": 6}, "dtick": 1 if few else None, "tickformat": "d", **alone}


def share_axis(title: str | None = None) -> dict[str, Any]:
    """A vertical axis of accuracies, always 0 to 100 %, so that charts can be compared."""
    return {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.25, "title": {"text": title}}


def fitted_share_axis(values: np.ndarray) -> dict[str, Any]:
    """A vertical axis of accuracies that the values fill, NaN ignored, for differences that 0 to 100 % would hide."""
    finite = values[np.isfinite(values)]
    # At least up to 2 %: shares that are all 0 would have ticks below it otherwise.
    low, high = (float(finite.min()), max(float(finite.max()), 0.02)) if len(finite) else (0.0, 1.0)
    room = max(0.05 * (high - low), 0.005)
    bounds = [max(low - room, -room / 5), min(high + room, 1.02)]  # no tick below 0 % or above 100 %
    return {"range": bounds, "tickformat": ".0%" if bounds[1] - bounds[0] > 0.1 else ".1%", "nticks": 7}


def score_axis(values: np.ndarray, *, is_share: bool) -> dict[str, Any]:
    """A vertical axis that fits a score: a share, or a loss."""
    return fitted_share_axis(values) if is_share else {"nticks": 7}


def colour_bar(**changes: Any) -> dict[str, Any]:
    """A slim scale beside a heat map."""
    return {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%", "len": 1, "ypad": 0, "xpad": 6, **changes}
