"""Figures of feature maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longtail.conf.base.names import figure_label
from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.spark_jobs.studies.feature_maps import FeatureMap
from longtail.spark_jobs.studies.figures.panels import panels_for

MAX_COLOURS = 20


def plot_maps(maps: Sequence[FeatureMap]) -> Figure | None:
    """Maps of features: a panel per trial, a dot per test image, coloured by class, or by shot group for many classes.

    None without maps.
    """
    if not maps:
        return None
    figure, panels = panels_for(len(maps), width=3.6, height=3.6)
    colours: dict[str, str] = {}
    for axes, mapped in zip(panels, maps, strict=True):
        names: list[str] = mapped.class_names
        numbers = mapped.labels
        if len(names) > MAX_COLOURS:
            names = list(SHOT_GROUPS)
            numbers = np.array([names.index(mapped.shot_groups[label]) for label in mapped.labels])
        palette = colormaps["tab20" if len(names) > 10 else "tab10"]
        colours = {name: to_hex(palette(number)) for number, name in enumerate(names)}
        for number, name in enumerate(names):
            these = mapped.positions[numbers == number]
            axes.scatter(these[:, 0], these[:, 1], s=4, color=colours[name])
        axes.set_title(mapped.title, fontsize=8)
        axes.set(xticks=[], yticks=[])
    patches = [Patch(color=colour, label=figure_label(name)) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8)
    return figure
