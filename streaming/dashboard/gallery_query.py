"""Which images an address asks for: /images?run=...&split=...&show=KIND and either of

    truth=CLASS&predicted=CLASS                      numbers of classes
    rows=ROWS&truth_row=ROW&predicted_row=ROW        rows of a chart of so many rows, with &group= and &classes= as
                                                     they are selected on the page (class_axis.py)

No text of an address goes further: runs, splits and classes are those of the tables, and numbers are numbers.
"""

from collections.abc import Mapping

from longtail.conf.vocabulary import HELD_OUT_SPLITS
from longtail.streaming.dashboard.class_axis import class_axis
from longtail.streaming.dashboard.gallery import CELL, CLASS, PSEUDO_LABELS, WantedImages, title_of
from longtail.streaming.dashboard.selection import GROUPS
from longtail.streaming.dashboard.shown_run import MAP_ROWS
from longtail.streaming.dashboard.table_rows import ReadTable, last_epoch
from longtail.streaming.tables.reading import rows_where

ADDRESS = "/images"


def wanted_images(read: ReadTable, parameters: Mapping[str, str]) -> WantedImages | None:
    """What is asked for; None if there is no such run, split or class."""
    run, split, kind = (parameters.get(name, "") for name in ("run", "split", "show"))
    if kind not in (CELL, CLASS, PSEUDO_LABELS) or split not in HELD_OUT_SPLITS:
        return None
    if run not in read("runs", run)["run"].to_pylist():
        return None
    of_split = rows_where(read("class_epochs", run), split=split)
    latest = rows_where(of_split, epoch=last_epoch(of_split))
    group = parameters.get("group", "all")
    num_rows = _number(parameters.get("rows", ""))
    if num_rows is None:
        axis = class_axis(latest, max_rows=len(latest))
        rows_by_class = {class_id: row for row, class_id in enumerate(axis.class_ids.tolist())}
        rows = [rows_by_class.get(_number(parameters.get(name, ""))) for name in ("truth", "predicted")]
    elif 0 < num_rows <= MAP_ROWS and group in GROUPS:
        axis = class_axis(latest, max_rows=num_rows, group=group, name_part=parameters.get("classes", "")[:100])
        rows = [_number(parameters.get(name, "")) for name in ("truth_row", "predicted_row")]
    else:
        return None
    if any(row is None or row >= len(axis) for row in rows):
        return None
    truth, predicted = (tuple(axis.class_ids[axis.band == row].tolist()) for row in rows)
    names = dict(zip(latest["class_id"].to_pylist(), latest["class_name"].to_pylist(), strict=True))
    title = title_of(kind, *([names[class_id] for class_id in classes] for classes in (truth, predicted)))
    return WantedImages(kind=kind, run=run, split=split, truth=truth, predicted=predicted, title=title)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None
