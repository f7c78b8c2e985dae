"""Figures with several panels."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def panels_for(number: int, *, width: float, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with this number of panels, at most three per row; width and height of a panel in inches."""
    columns = min(3, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
    for axes in grid[number:]:
        axes.set_axis_off()
    return figure, grid[:number]
