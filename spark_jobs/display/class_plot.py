"""The plot of class sizes, drawn without a screen."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location


def draw_head_to_tail(counts: Mapping[str, Sequence[int]], path: Location, *, title: str) -> None:
    """Write head_to_tail_figure() as a PNG."""
    figure = head_to_tail_figure(counts, title=title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))


def head_to_tail_figure(counts: Mapping[str, Sequence[int]], *, title: str) -> Figure:
    """Class sizes per split, from the largest training class to the smallest, on a logarithmic axis.

    counts: images per class by split, each (num_classes,); the first split gives the order. Empty classes have no point
    """
    first = next(iter(counts.values()))
    order = sorted(range(len(first)), key=lambda class_id: -first[class_id])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for split, sizes in counts.items():
        axes.plot(range(len(order)), [sizes[i] or math.nan for i in order], marker=".", label=split)
    axes.set(yscale="log", title=title, xlabel="class, ordered by training images", ylabel="images")
    axes.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())  # 40 and not 4 x 10^1
    axes.legend()
    return figure
