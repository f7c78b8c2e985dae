"""Pictures of statistics, drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from longtail.conf.base.files import write_atomically


def draw_head_to_tail(counts: Mapping[str, Sequence[int]], path: Path, *, title: str) -> None:
    """A PNG of each split's class sizes, from the largest training class to the smallest, on a logarithmic axis.

    counts: images per class by split, each (num_classes,); the first gives the order. An empty class has no point.
    """
    first = next(iter(counts.values()))
    order = sorted(range(len(first)), key=lambda class_id: -first[class_id])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for split, sizes in counts.items():
        axes.plot(range(len(order)), [sizes[i] or None for i in order], marker=".", label=split)
    axes.set(yscale="log", title=title, xlabel="class, by training images", ylabel="images")
    axes.legend()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
