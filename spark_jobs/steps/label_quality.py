"""The quality of pseudo-labels by the withheld labels: written next to their table, and printed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from longtail.conf.base.files import write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import is_finished
from longtail.conf.vocabulary import TRAIN
from longtail.data.copies import unlabeled_copy_lines
from longtail.data.longtail import head_half
from longtail.data.manifest import Manifest
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import percent

MIN_PSEUDO_LABEL_ACCURACY = 0.75
"""Share of right pseudo-labels of images of the classes. On CIFAR-10, training on them lost accuracy at 60 %, gained
nothing at 72 %, and gained at 80 % (docs/reports/two_cores_labels/report.md)."""
TOO_FEW_RIGHT = "on CIFAR-10, training on such pseudo-labels gained nothing or lost accuracy"


def write_quality(quality: Sequence[Mapping[str, Any]], manifest: Manifest, table: Location) -> None:
    """Write precision and recall per class; null where the denominator is 0.

    quality: rows of with_label_quality

    For theorem 1, head_precision and tail_precision are the shares of the pseudo-labels of a half of the classes that
    are of this half (p and q). Beside them stands what was left out of the set's unlabeled part, or kept in it, as
    copies of other images.
    """
    rows = [dict(row) for row in quality]
    for row in rows:
        row["class_name"] = manifest.class_names[row["class_id"]]
        row["precision"] = row["correct"] / row["judged"] if row["judged"] else None
        row["recall"] = row["correct"] / row["support"] if row["support"] else None
    correct, total = sum(row["correct"] for row in rows), sum(row["labelled"] for row in rows)
    accuracy = correct / total if total else None
    is_head = head_half(manifest.counts[TRAIN])
    content = {
        "accuracy": accuracy,
        "head_precision": _half_precision([row for row in rows if is_head[row["class_id"]]]),
        "tail_precision": _half_precision([row for row in rows if not is_head[row["class_id"]]]),
        "classes": rows,
        "copies": unlabeled_copy_lines(manifest),
    }
    write_json_atomically(_quality_file(table), content)


def remove_quality(table: Location) -> None:
    """Remove what write_quality wrote: before the table is replaced, so that it never stands beside another one."""
    _quality_file(table).unlink(missing_ok=True)


def is_labelled(table: Location) -> bool:
    """Whether a table of pseudo-labels is there with all that belongs to it.

    Its quality is written last: a process that is killed before has labelled nothing.
    """
    return is_finished(table) and _quality_file(table).exists()


def read_quality(table: Location) -> dict[str, Any]:
    """What write_quality wrote: the accuracy of a table's pseudo-labels (None if unknown), and one row per class."""
    return json.loads(_quality_file(table).read_text(encoding="utf-8"))


def show_quality(table: Location) -> None:
    """Print what write_quality wrote, and a warning where too few pseudo-labels are right."""
    rows = read_quality(table)["classes"]
    is_known = any(row["support"] for row in rows)
    shown = Table(
        title="pseudo-labels against the withheld labels" if is_known else "pseudo-labels", title_justify="left"
    )
    of_truth = ("unlabeled", "precision %", "recall %") if is_known else ()
    for heading in ("class", "pseudo-labelled as", *of_truth):
        shown.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        scores = (str(row["support"]), percent(row["precision"]), percent(row["recall"])) if is_known else ()
        shown.add_row(row["class_name"], str(row["predicted"]), *scores)
    correct, total = sum(row["correct"] for row in rows), sum(row["labelled"] for row in rows)
    terminal = console()
    terminal.print(shown)
    if total:
        terminal.print(f"{correct} of {total} right: {percent(correct / total)} %", soft_wrap=True)
        if are_too_often_wrong(table):
            terminal.print(
                f"warning: less than {100 * MIN_PSEUDO_LABEL_ACCURACY:g} % of the pseudo-labels are right; "
                f"{TOO_FEW_RIGHT}: train the classifier longer or on more labels, or keep what it is sure of "
                f"(--threshold 0.9)",
                style="yellow",
                soft_wrap=True,
            )
    elif is_known:
        terminal.print("the classes of the selected images are unknown")
    else:
        terminal.print("the classes of the unlabeled part are unknown")


def are_too_often_wrong(table: Location) -> bool:
    """Whether less than MIN_PSEUDO_LABEL_ACCURACY of the pseudo-labels are known to be right."""
    accuracy = read_quality(table)["accuracy"]
    return accuracy is not None and accuracy < MIN_PSEUDO_LABEL_ACCURACY


def _half_precision(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of the pseudo-labels of these classes that are of their half; None if none is judged."""
    judged = sum(row["judged"] for row in rows)
    return sum(row["right_half"] for row in rows) / judged if judged else None


def _quality_file(table: Location) -> Location:
    return table.with_suffix(".quality.json")
