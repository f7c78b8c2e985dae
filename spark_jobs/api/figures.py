"""Figures that a notebook shows."""

import sys
from io import BytesIO
from typing import TypeVar

from matplotlib.figure import Figure

AnyFigure = TypeVar("AnyFigure", bound=Figure)


def shown(figure: AnyFigure) -> AnyFigure:
    """The figure, which a notebook shows as an image, also without `%matplotlib inline`."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if ipython is not None:
        png = ipython.display_formatter.formatters["image/png"]
        if Figure not in png.type_printers:  # as `%matplotlib inline` registers one
            png.for_type(Figure, _png)
    return figure


def _png(figure: Figure) -> bytes:
    image = BytesIO()
    figure.savefig(image, format="png", dpi=72)
    return image.getvalue()
