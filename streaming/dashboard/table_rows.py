"""Selects rows of the result tables for the page."""

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.vocabulary import UNLABELED
from longtail.streaming.events.schema import INTERRUPTED
from longtail.streaming.tables.reading import rows_where
from longtail.streaming.tables.schemas import LOST, RUNNING, SPLITS, TABLES

Row = dict[str, Any]

ReadTable = Callable[[str, str | None], pa.Table]
"""read(name of a table, run or None): a result table, or its rows of one run."""

CUT_SHORT = (LOST, INTERRUPTED)
"""Statuses of runs that nobody waits for and that have no result."""


def newest_first(runs: pa.Table) -> list[Row]:
    """The rows of runs, running ones first, then by start."""
    rows = runs.to_pylist()
    return sorted(rows, key=lambda row: (row["status"] != RUNNING, -(row["started_at"] or 0), row["run"]))


def chosen_by_default(rows: Iterable[Row]) -> str | None:
    """The run that the page shows unless it is asked for another: the first that nothing has cut short.

    rows: of `runs`, in the order in which they are listed
    """
    listed = list(rows)
    whole = (row["run"] for row in listed if row["status"] not in CUT_SHORT)
    return next(whole, listed[0]["run"] if listed else None)


def splits_of(epochs: pa.Table, run: str) -> list[str]:
    """The splits that a run has rows of, in the order of SPLITS."""
    present = set(rows_where(epochs, run=run)["split"].to_pylist())
    return [split for split in SPLITS if split in present]


def last_epoch(table: pa.Table) -> int:
    """The highest epoch of a table, 0 of an empty one."""
    return pc.max(table["epoch"]).as_py() or 0


def latest_step(steps: pa.Table, *, after_epoch: int) -> Row | None:
    """The last row of the epoch that a run is in; None before its first step.

    after_epoch: the last finished epoch
    """
    current = steps.filter(pc.greater(steps["epoch"], after_epoch))
    rows = current.sort_by([("epoch", "descending"), ("step", "descending")]).slice(0, 1).to_pylist()
    return rows[0] if rows else None


def latest_round(labels: pa.Table) -> pa.Table:
    """The rows of the last round of labelling."""
    return labels.filter(pc.equal(labels["round"], pc.max(labels["round"])))


def scores_of_labels(labels: pa.Table) -> pa.Table:
    """Precision and recall of each class, as rows of class_epochs have them; null where there is nothing to divide by.

    labels: rows of pseudo_labels of one round whose truth is known
    """
    right = labels["correct_count"].cast(pa.float64())
    parts = {}
    for name, whole in (("precision", "pseudo_label_count"), ("accuracy", "unlabeled_count")):
        has_any = pc.greater(labels[whole], 0)
        parts[name] = pc.if_else(has_any, pc.divide(right, pc.max_element_wise(labels[whole], 1)), None)
    return pa.table({"class_id": labels["class_id"], **parts})


def previous_round(labels: pa.Table, read: ReadTable) -> pa.Table | None:
    """The pseudo-labels that the classifier of a labelling was trained on; None if there are none.

    labels: one run's pseudo_labels of one round
    """
    (first,) = labels.select(["previous_run", "round"]).slice(0, 1).to_pylist()
    if not first["previous_run"]:
        return None
    previous = rows_where(read("pseudo_labels", first["previous_run"]), round=first["round"] - 1)
    return previous if len(previous) else None


def labels_of_steps(read: ReadTable, row: Row) -> pa.Table:
    """class_epochs of the pseudo-labels that a run makes in every step; empty where the true classes are not known.

    row: its row of `runs`
    """
    if row["phase"] != "train_semi":
        return TABLES["class_epochs"].empty_table()
    return rows_where(read("class_epochs", row["run"]), split=UNLABELED)


def confident_in_steps(classes: pa.Table) -> pa.Table:
    """The pseudo-labels of the steps of an epoch, as rows of pseudo_labels without confidences.

    classes: class_epochs of the split `unlabeled` at one epoch
    """
    return pa.table(
        {
            "class_id": classes["class_id"],
            "labelled_count": pc.subtract(classes["train_count"], classes["pseudo_label_count"]),
            "pseudo_label_count": classes["predicted"],
            "mean_confidence": pa.nulls(len(classes), pa.float64()),
        }
    )


def pseudo_labels_in_training(classes: pa.Table) -> pa.Table:
    """The pseudo-labels that a run is trained on, as rows of pseudo_labels without confidences; no row without any.

    classes: class_epochs of one epoch
    """
    if not (pc.sum(classes["pseudo_label_count"]).as_py() or 0):
        return classes.slice(0, 0)
    return pa.table(
        {
            "class_id": classes["class_id"],
            "labelled_count": pc.subtract(classes["train_count"], classes["pseudo_label_count"]),
            "pseudo_label_count": classes["pseudo_label_count"],
            "mean_confidence": pa.nulls(len(classes), pa.float64()),
        }
    )
