"""A diagnosis as files and in the terminal."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.spark_jobs.advising.diagnosis import Diagnosis
from longtail.spark_jobs.advising.estimates import Estimate
from longtail.spark_jobs.advising.sentences import conclusion, gap_sentence, threshold_sentence
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import percent

ADVICE_FILE = "advice.json"
CLASSES_FILE = "classes.parquet"
MAX_CLASSES_SHOWN = 100


def write_diagnosis(diagnosis: Diagnosis, output_dir: Location) -> None:
    """Write advice.json and classes.parquet."""
    rows = class_rows(diagnosis)
    content = {
        "checkpoint": str(diagnosis.checkpoint),
        "conclusion": conclusion(diagnosis.on_unlabeled, diagnosis.on_self_supervision),
        "unlabeled_data": asdict(diagnosis.on_unlabeled),
        "self_supervision": asdict(diagnosis.on_self_supervision),
        "head_tail_gap": gap_sentence(diagnosis.found),
        "theorem_1": threshold_sentence(diagnosis.bias),
        "labelled": {"rho": diagnosis.rho, "tail_share": diagnosis.tail_share},
        "estimates": {
            name: asdict(value) for name, value in vars(diagnosis.found).items() if isinstance(value, Estimate)
        },
        "copies": list(diagnosis.copies),
        "threshold_bias": diagnosis.bias and asdict(diagnosis.bias),
        "classes": rows,
    }
    write_json_atomically(output_dir / ADVICE_FILE, content)
    write_atomically(output_dir / CLASSES_FILE, lambda temporary: pq.write_table(pa.Table.from_pylist(rows), temporary))


def class_rows(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """One row per class; shares are of all unlabeled images. Precision is None for a class without predictions."""
    found = diagnosis.found
    return [
        {
            "class_id": class_id,
            "class_name": name,
            "shot_group": diagnosis.shot_groups[class_id],
            "half": "head" if diagnosis.is_head[class_id] else "tail",
            "labelled": int(diagnosis.labelled[class_id]),
            "held_out": int(diagnosis.held_out[class_id]),
            "predicted_share": float(diagnosis.predicted[class_id] / diagnosis.predicted.sum()),
            "estimated_share": float(found.relevance.value * found.class_shares[class_id]),
            "recall": float(found.recall[class_id]),
            "precision": None if np.isnan(found.precision[class_id]) else float(found.precision[class_id]),
        }
        for class_id, name in enumerate(diagnosis.class_names)
    ]


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a table of the classes, and the sentences."""
    terminal = console()
    rows = class_rows(diagnosis)
    if len(rows) <= MAX_CLASSES_SHOWN:
        table = Table(title="estimated without test images and withheld labels", title_justify="left")
        for heading in ("class", "half"):
            table.add_column(heading)
        for heading in ("labelled", "held out", "predicted %", "estimated %", "recall %", "precision %"):
            table.add_column(heading, justify="right")
        for row in rows:
            scores = (row[name] for name in ("predicted_share", "estimated_share", "recall", "precision"))
            counts = (str(row[name]) for name in ("labelled", "held_out"))
            table.add_row(row["class_name"], row["half"], *counts, *map(percent, scores))
        terminal.print(table)
    else:
        terminal.print(f"{len(rows)} classes, listed in {CLASSES_FILE}", soft_wrap=True)
    for line in diagnosis_lines(diagnosis):
        terminal.print(line, soft_wrap=True, highlight=False)


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """The conclusion, each verdict with its reasons, the gap between head and tail, theorem 1, and copies."""
    lines = [conclusion(diagnosis.on_unlabeled, diagnosis.on_self_supervision)]
    for name, advice in (
        ("unlabeled data", diagnosis.on_unlabeled),
        ("self-supervision", diagnosis.on_self_supervision),
    ):
        lines += [f"{name}: {advice.summary}", *(f"- {reason}" for reason in advice.reasons)]
    return [*lines, gap_sentence(diagnosis.found), threshold_sentence(diagnosis.bias), *diagnosis.copies]
