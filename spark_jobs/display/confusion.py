"""The figure of a confusion matrix, drawn without a screen."""

import numpy as np
from matplotlib.figure import Figure

from longtail.conf.base.names import figure_label

MAX_CLASSES_SHOWN = 40


def confusion_figure(confusion: dict[str, list[int]], class_names: list[str], *, title: str) -> Figure:
    """Shares of each true class's images by predicted class: rows add up to 1.

    confusion: the nonzero cells (training/metrics.py); of more than MAX_CLASSES_SHOWN classes, those that are most
    often mistaken are shown
    """
    cells = np.array([confusion[name] for name in ("target", "predicted", "count")], dtype=np.int64)
    target, predicted, count = cells
    shown = np.arange(len(class_names))
    if len(shown) > MAX_CLASSES_SHOWN:
        wrong = target != predicted
        mistakes = np.bincount(target[wrong], weights=count[wrong], minlength=len(class_names))
        mistakes += np.bincount(predicted[wrong], weights=count[wrong], minlength=len(class_names))
        shown = np.sort(np.argsort(-mistakes, kind="stable")[:MAX_CLASSES_SHOWN])
    support = np.bincount(target, weights=count, minlength=len(class_names))
    place = np.full(len(class_names), -1)
    place[shown] = np.arange(len(shown))
    inside = (place[target] >= 0) & (place[predicted] >= 0)
    matrix = np.zeros((len(shown), len(shown)))
    matrix[place[target[inside]], place[predicted[inside]]] = count[inside] / support[target[inside]]
    side = 3 + 0.22 * len(shown)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
    names = [figure_label(class_names[number]) for number in shown]
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    figure.colorbar(image, label="share of the true class's images")
    return figure
