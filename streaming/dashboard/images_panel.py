"""The panel that opens the gallery of a class: for those who have no mouse to click on a chart with, too."""

from longtail.conf.vocabulary import HELD_OUT_SPLITS
from longtail.streaming.dashboard.rendering import render
from longtail.streaming.dashboard.shown_run import Content, ShownRun

_MOST_CLASSES = 24


def images_panel(shown: ShownRun) -> Content:
    """A button for each of the smallest classes that are selected."""
    if shown.split not in HELD_OUT_SPLITS:
        return "", {}
    axis = shown.axis(len(shown.latest))
    names = dict(zip(shown.latest["class_id"].to_pylist(), shown.latest["class_name"].to_pylist(), strict=True))
    class_ids = axis.class_ids.tolist()[-_MOST_CLASSES:]
    note = render(
        "images.html",
        run=shown.run,
        split=shown.split,
        selection=shown.selection,
        classes=[(class_id, names[class_id]) for class_id in reversed(class_ids)],
        num_classes=len(axis),
    )
    return note, {}
