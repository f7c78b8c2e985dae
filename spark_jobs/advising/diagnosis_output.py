"""A diagnosis as files and in the terminal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.table import Table

from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.spark_jobs.advising.commands import Commands
from longtail.spark_jobs.advising.diagnosis import Diagnosis
from longtail.spark_jobs.advising.estimates import Estimate
from longtail.spark_jobs.advising.quantities import FOOTNOTES, NOT_SHOWN, quantities
from longtail.spark_jobs.advising.rules import MIN_HELD_OUT
from longtail.spark_jobs.advising.sentences import (
    SELF_SUPERVISION_QUESTION,
    UNLABELED_QUESTION,
    conclusion,
    threshold_sentence,
)
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import percent, percent_in

ADVICE_FILE = "advice.json"
CLASSES_FILE = "classes.parquet"
MAX_CLASSES_SHOWN = 100
_BY_CLASS = {"estimated_share": "class_shares", "recall": "recall", "precision": "precision"}
"""A column of class_rows(), and the field of `Estimates` that it has."""


def write_diagnosis(diagnosis: Diagnosis, commands: Commands, output_dir: Location) -> None:
    """Write advice.json and classes.parquet."""
    rows = class_rows(diagnosis)
    found = diagnosis.found
    content = {
        "checkpoint": str(diagnosis.checkpoint),
        "conclusion": conclusion(diagnosis.on_unlabeled, diagnosis.on_self_supervision),
        "unlabeled_data": {**asdict(diagnosis.on_unlabeled), "command": commands.unlabeled_data},
        "self_supervision": {**asdict(diagnosis.on_self_supervision), "command": commands.self_supervision},
        "theorem_1": threshold_sentence(diagnosis.bias, held_out=found.held_out),
        "labelled": {"rho": diagnosis.rho, "tail_share": diagnosis.tail_share},
        "held_out": dict(zip(("head", "tail"), found.held_out, strict=True)),
        "estimates": {name: asdict(value) for name, value in vars(found).items() if isinstance(value, Estimate)},
        "copies": list(diagnosis.copies),
        "threshold_bias": diagnosis.bias and asdict(diagnosis.bias),
        "classes": rows,
    }
    write_json_atomically(output_dir / ADVICE_FILE, content)
    write_atomically(output_dir / CLASSES_FILE, lambda temporary: pq.write_table(pa.Table.from_pylist(rows), temporary))


def class_rows(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """One row per class; shares are of all unlabeled images. Precision is None for a class without predictions."""
    return [
        {
            "class_id": class_id,
            "class_name": name,
            "shot_group": diagnosis.shot_groups[class_id],
            "half": "head" if diagnosis.is_head[class_id] else "tail",
            "labelled": int(diagnosis.labelled[class_id]),
            "held_out": int(diagnosis.held_out[class_id]),
            "predicted_share": float(diagnosis.predicted[class_id] / diagnosis.predicted.sum()),
            **_estimates_of(diagnosis, class_id),
        }
        for class_id, name in enumerate(diagnosis.class_names)
    ]


def _estimates_of(diagnosis: Diagnosis, class_id: int) -> dict[str, float | None]:
    """The class's estimates, each with the ends of its interval."""
    values: dict[str, float | None] = {}
    for column, field in _BY_CLASS.items():
        estimates = getattr(diagnosis.found, field)
        for suffix in ("value", "low", "high"):
            value = float(getattr(estimates, suffix)[class_id])
            values[column if suffix == "value" else f"{column}_{suffix}"] = None if np.isnan(value) else value
    return values


def print_diagnosis(diagnosis: Diagnosis, commands: Commands) -> None:
    """Print the answers with their reasons and commands, then what they rest on."""
    terminal = console()
    for line in answer_lines(diagnosis, commands):
        terminal.print(line, soft_wrap=True, highlight=False)
    terminal.print(_quantity_table(diagnosis))
    rows = class_rows(diagnosis)
    if len(rows) <= MAX_CLASSES_SHOWN:
        terminal.print(_class_table(rows))
    else:
        terminal.print(f"{len(rows)} classes, listed in {CLASSES_FILE}", soft_wrap=True)
    for line in diagnosis_notes(diagnosis):
        terminal.print(line, soft_wrap=True, highlight=False)


def answer_lines(diagnosis: Diagnosis, commands: Commands) -> list[str]:
    """The two questions, each with its answer, the reasons, and the command to run next, if any.

    Where the estimates lean to no, the command is not the next step.
    """
    lines = []
    for question, advice, command in (
        (UNLABELED_QUESTION, diagnosis.on_unlabeled, commands.unlabeled_data),
        (SELF_SUPERVISION_QUESTION, diagnosis.on_self_supervision, commands.self_supervision),
    ):
        lines += [f"{question} {advice.answer}", *(f"- {reason}" for reason in advice.reasons)]
        lead = "next" if advice.leaning == "gain" else "to try it all the same"
        lines += [f"{lead}: {command}"] if command else []
    return lines


def diagnosis_notes(diagnosis: Diagnosis) -> list[str]:
    """What the words of the tables mean, theorem 1, and copies."""
    return [*FOOTNOTES, threshold_sentence(diagnosis.bias, held_out=diagnosis.found.held_out), *diagnosis.copies]


def _quantity_table(diagnosis: Diagnosis) -> Table:
    table = Table(title="estimated without test images and withheld labels", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("unlabeled images, then the classifier")
    table.add_column("estimate", justify="right", no_wrap=True)
    table.add_column("needed", justify="right", no_wrap=True)
    for row in quantities(diagnosis.found, rho=diagnosis.rho, tail_share=diagnosis.tail_share):
        table.add_row(row.name, row.text, row.needed)
    return table


def _class_table(rows: list[dict[str, Any]]) -> Table:
    """Head half first; estimates as whole percent with their intervals."""
    # Without spare columns: of 80, class names of a dozen letters have room.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("class", overflow="fold")
    for heading in ("labelled\n(held out)", "predicted\n%", "estimated\n%", "recall\n%", "precision\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for half in ("head", "tail"):
        for row in rows:
            if row["half"] == half:
                table.add_row(
                    row["class_name"],
                    f"{row['labelled']} ({row['held_out']})",
                    percent(row["predicted_share"]),
                    *(_shown(row, column) for column in _BY_CLASS),
                )
        table.add_section()
    return table


def _shown(row: Mapping[str, Any], column: str) -> str:
    if row["held_out"] < MIN_HELD_OUT:
        return NOT_SHOWN
    return percent_in(row[column], row[f"{column}_low"], row[f"{column}_high"])
