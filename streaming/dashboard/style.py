"""How every chart of the page looks: one set of colours, one type, no frames.

Two scales carry meaning, the same in all charts, and both can be told apart by
colour-blind readers: a share from 0 to 1 is Viridis; a class's place between
head and tail goes from blue over violet to orange. All colours stand on light
and on dark ground; the ink of texts and grids is CSS (page.css).
"""

from html import escape
from typing import Any

import plotly.graph_objects as go

from longtail.conf.vocabulary import SHOT_GROUPS

SHARE_SCALE = "Viridis"
NEUTRAL = "#7d8590"
"""What a chart compares with: true shares, the earlier round, the mean over all classes."""

RUN_COLOURS = ("#7d8590", "#1a9850", "#c2417c", "#2aa5c4", "#8a6d1c")
"""Compared runs in their order, the reference first; none of them lies on the head-to-tail scale."""
RUN_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

_HEAD_TO_TAIL = ((0x3B, 0x78, 0xC2), (0xA0, 0x5F, 0xA8), (0xD9, 0x71, 0x1C))
_NAME_LENGTH = 22


def head_tail_colour(place: float) -> str:
    """The colour of a class at a place from 0 (most training images) to 1 (fewest)."""
    lower, upper = _HEAD_TO_TAIL[:2] if place < 0.5 else _HEAD_TO_TAIL[1:]
    part = 2 * place if place < 0.5 else 2 * place - 1
    mixed = (round(a + part * (b - a)) for a, b in zip(lower, upper, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


GROUP_COLOURS = dict(zip(SHOT_GROUPS, map(head_tail_colour, (0, 0.5, 1)), strict=True))


def shown_name(name: str, length: int = _NAME_LENGTH) -> str:
    """A name from the events as a chart can show it: not too long, and no markup (charts understand some HTML)."""
    return escape(name if len(name) <= length else f"{name[: length - 1]}…", quote=False)


def new_figure(*, height: int, view: str) -> go.Figure:
    """An empty chart.

    height: pixels; the width is the page's
    view: what the chart is of; as long as that stays the same, new data leaves the reader's zoom alone
    """
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        uirevision=view,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "inherit", "size": 12},
        showlegend=False,
        hoverlabel={"bgcolor": "#1d2127", "bordercolor": "#1d2127", "font": {"color": "#f2f4f7", "size": 12}},
        dragmode="zoom",
    )
    return plain_axes(figure)


def plain_axes(figure: go.Figure) -> go.Figure:
    """Axes without frame and ticks, lines across only at the values."""
    figure.update_xaxes(automargin=True, showgrid=False, zeroline=False, showline=False, ticks="")
    figure.update_yaxes(automargin=True, showgrid=True, zeroline=False, showline=False, ticks="", ticklabelstandoff=6)
    return figure


def epoch_axis(epochs: list[int]) -> dict[str, Any]:
    """A horizontal axis of whole epochs."""
    few = len(epochs) <= 12
    return {"title": {"text": "epoch", "standoff": 6}, "dtick": 1 if few else None, "tickformat": "d"}


def share_axis(title: str | None = None) -> dict[str, Any]:
    """A vertical axis of accuracies, always 0 to 100 %, so that two charts can be compared."""
    return {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.25, "title": {"text": title}}


def colour_bar(**changes: Any) -> dict[str, Any]:
    """A slim scale beside a heat map."""
    return {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%", "len": 1, "ypad": 0, "xpad": 6, **changes}
