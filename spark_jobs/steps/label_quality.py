"""How right pseudo-labels are, by the withheld labels: kept beside their table, and shown."""

import json
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from rich import get_console
from rich.table import Table

from longtail.conf.base.files import write_json_atomically
from longtail.spark_jobs.display.tables import percent


def write_quality(quality: DataFrame, class_names: list[str], table: Path) -> None:
    """Keep precision and recall per class of with_label_quality's rows; null where there is nothing to divide by."""
    rows = [row.asDict() for row in quality.collect()]
    for row in rows:
        row["class_name"] = class_names[row["class_id"]]
        row["precision"] = row["correct"] / row["predicted"] if row["predicted"] else None
        row["recall"] = row["correct"] / row["support"] if row["support"] else None
    right, total = sum(row["correct"] for row in rows), sum(row["labelled"] for row in rows)
    accuracy = right / total if total else None
    write_json_atomically(_quality_file(table), {"accuracy": accuracy, "classes": rows})


def read_quality(table: Path) -> dict[str, Any]:
    """Accuracy of a table's pseudo-labels (None if nobody knows it), and their classes' rows."""
    return json.loads(_quality_file(table).read_text(encoding="utf-8"))


def show_quality(table: Path) -> None:
    """Print what write_quality kept."""
    rows = read_quality(table)["classes"]
    shown = Table(title="pseudo-labels against the withheld labels", title_justify="left")
    for heading in ("class", "unlabeled", "pseudo-labelled as", "precision %", "recall %"):
        shown.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        shown.add_row(
            row["class_name"], str(row["support"]), str(row["predicted"]),
            percent(row["precision"]), percent(row["recall"]),
        )  # fmt: skip
    right, total = sum(row["correct"] for row in rows), sum(row["labelled"] for row in rows)
    console = get_console()
    console.print(shown)
    if total:
        console.print(f"{right} of {total} right: {percent(right / total)} %")
    elif any(row["support"] for row in rows):
        console.print("none was chosen whose class is known")
    else:
        console.print("nobody knows the classes of the unlabeled part")


def _quality_file(table: Path) -> Path:
    return table.with_suffix(".quality.json")
