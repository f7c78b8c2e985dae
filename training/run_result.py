"""The scores of a finished run or of a checkpoint, as result.json has them (training/result_file.py reads it)."""

from dataclasses import asdict
from typing import Any

from longtail.data.manifest import Manifest
from longtail.training.checkpoint_metadata import BestEpoch
from longtail.training.metrics import Predictions, Totals, split_scores
from longtail.training.objective import Task


def run_result(
    run: str,
    task: Task,
    *,
    phase: str,
    epoch: int,
    totals: dict[str, Totals],
    predictions: dict[str, Predictions],
    best: BestEpoch | None,
    manifest: Manifest,
) -> dict[str, Any]:
    """Content of result.json: scores at the last epoch, and at the one chosen on validation data (None without).

    Scores that need every prediction are given for the held-out splits only.
    """
    data = task.data
    groups = data.shot_groups
    return {
        "run": run,
        "phase": phase,
        "epoch": epoch,
        "class_names": data.class_names,
        "class_counts": data.class_counts,
        "pseudo_label_round": data.pseudo_label_round,
        "shot_groups": groups,
        "best_on_validation": asdict(best) if best else None,
        "chosen_on_validation": task.objective.chosen,
        "copies": manifest.copies,
        "splits": {split: split_scores(values, predictions.get(split), groups) for split, values in totals.items()},
    }
