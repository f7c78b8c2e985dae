"""Rows of the result tables for tests: plain ones, and what a test wants to be different about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.writing import write_run

PLAIN: dict[str, dict[str, Any]] = {
    "runs": {
        "run": "base", "attempt": 1, "phase": "train", "status": "running", "started_at": 1000.0, "updated_at": 1060.0,
        "epoch": 2, "num_epochs": 4, "configuration": '{"dataset": "digits", "arch": "resnet20", "loss_type": "CE"}',
        "message": "",
    },
    "class_epochs": {
        "run": "base", "phase": "train", "split": "test", "epoch": 1, "num_epochs": 4, "class_id": 0,
        "class_name": "zero", "shot_group": "many", "train_count": 100, "pseudo_label_count": 0, "support": 10,
        "accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "precision": 0.25,
        "true_share": 0.5, "predicted_share": 0.5,
    },
    "epochs": {
        "run": "base", "phase": "train", "split": "test", "epoch": 1, "num_epochs": 4, "accuracy": 0.5,
        "balanced_accuracy": 0.5, "many_shot_accuracy": 0.9, "medium_shot_accuracy": None, "few_shot_accuracy": 0.1,
        "head_tail_gap": 0.8, "label_bias": 0.25, "calibration_gap": 0.1, "loss": 1.0, "emitted_at": 1060.0,
    },
    "confusion": {
        "run": "base", "split": "test", "epoch": 2, "true_class": 0, "predicted_class": 0, "count": 1,
    },
    "pseudo_labels": {
        "run": "base", "round": 1, "previous_run": "", "class_id": 0, "class_name": "zero", "labelled_count": 100,
        "pseudo_label_count": 300, "mean_confidence": 0.8, "confidence_p10": 0.5, "confidence_p50": 0.85,
        "confidence_p90": 0.95,
    },
    "unlabeled_estimates": {
        "run": "base", "round": 1, "rho": 20.0, "rho_pseudo_labels": 30.0, "rho_unlabeled": 2.5,
    },
    "predictions": {
        "run": "base", "stream": "predictions", "window_start": 600.0, "window_seconds": 600, "class_id": 0,
        "class_name": "zero", "train_count": 100, "predicted": 30, "novel": 1, "confidence_sum": 27.0,
        "confidence_squares": 25.0, "estimated_share": 0.5, "share_low": 0.25, "share_high": 0.75,
        "reference_predicted": 600, "reference_novel": 5, "reference_confidence_sum": 560.0,
        "reference_confidence_squares": 540.0,
    },
    "steps": {
        "run": "base", "phase": "train", "epoch": 3, "step": 5, "num_steps": 9, "loss": 0.125,
        "images_per_second": 1234.0, "attempt": 1, "emitted_at": 1061.0,
    },
    "alerts": {
        "run": "base", "split": "test", "epoch": 2, "rule": "class_collapsed", "message": "class 9 fell to 0.0 %",
    },
}  # fmt: skip


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    """A result table of plain rows with these changes."""
    return pa.Table.from_pylist([{**PLAIN[name], **changes} for changes in rows], schema=TABLES[name])


def class_rows(accuracies: Mapping[int, Sequence[float | None]], **changes: Any) -> pa.Table:
    """class_epochs of one run: per class its accuracy in epoch 1, 2, ...; class i has 100 - i images, of ten one is
    many-shot, the next medium and the others few, and its true share is 1 / number of classes."""
    groups = ("many", "medium")
    return table(
        "class_epochs",
        *(
            {
                "class_id": class_id,
                "class_name": f"class {class_id}",
                "shot_group": groups[class_id] if class_id < 2 else "few",
                "train_count": 100 - class_id,
                "epoch": epoch,
                "accuracy": accuracy,
                "true_share": 1 / len(accuracies),
                "predicted_share": 1 / len(accuracies),
                **changes,
            }
            for class_id, of_class in accuracies.items()
            for epoch, accuracy in enumerate(of_class, start=1)
        ),
    )


def write_base(tables_dir: Path, *, accuracies: tuple[float, ...] = (0.5,), status: str = "finished") -> None:
    """The tables of run base, as the live query keeps them."""
    rows = class_rows({0: list(accuracies)})
    segments = {"class_epochs": {"0": rows}, "epochs": {"0": table("epochs", {})}}
    manifest = RunManifest(run="base", segment_epochs={"class_epochs": 1000, "epochs": 1000, "steps": 100})
    write_run(tables_dir, manifest, segments, {"runs": table("runs", {"status": status}).to_pylist()})
