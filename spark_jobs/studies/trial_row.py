"""A row of the results table: the configuration, scores and circumstances of a finished trial."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from longtail import conf
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TEST
from longtail.data.copies import copy_lines
from longtail.spark_jobs.steps.label_quality import read_quality
from longtail.spark_jobs.studies.cost import StepTime, optimizer_steps_of_step
from longtail.spark_jobs.studies.planned import PlannedTrial
from longtail.spark_jobs.studies.run_step import Outputs

Row = dict[str, Any]
"""A row of the results table, as Python values; `levels` and `versions` are dicts."""

SCORES = (
    "accuracy", "balanced_accuracy", "many_shot_accuracy", "medium_shot_accuracy", "few_shot_accuracy", "loss",
    "top5_accuracy", "macro_f1", "expected_calibration_error",
)  # fmt: skip
"""Scores on the test set at the last epoch, defined in training/metrics.py; null where undefined."""

_PACKAGES = ("longtail", "torch", "torchvision", "pyspark", "numpy")

TRIAL_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),  # trial_id: changes with every option
        ("levels", pa.map_(pa.string(), pa.string())),  # axis -> level
        ("seed", pa.int64()),
        ("configuration", pa.string()),  # JSON: the options of the last step
        ("run", pa.string()),  # directory of the last step's run
        ("arch", pa.string()),
        ("epochs", pa.int64()),  # of the last step; of several rounds of self-training, of the last one
        ("rounds", pa.int64()),  # of self-training; null in tables of older versions, as are the next two
        ("optimizer_steps", pa.int64()),  # of the last step, in all rounds
        ("earlier_optimizer_steps", pa.int64()),  # of the trainings that the last step starts from
        *((name, pa.float64()) for name in SCORES),
        ("chosen_epoch", pa.int64()),  # by validation accuracy; null without a validation split
        ("chosen_balanced_accuracy", pa.float64()),  # on the test set at that epoch
        ("pseudo_label_accuracy", pa.float64()),  # share of correct pseudo-labels; null without
        ("pseudo_label_head_precision", pa.float64()),  # p and q of theorem 1 (steps/label_quality.py); null without,
        ("pseudo_label_tail_precision", pa.float64()),  # and in tables of older versions
        ("class_names", pa.list_(pa.string())),
        ("shot_groups", pa.list_(pa.string())),
        ("class_counts", pa.list_(pa.int64())),  # training images, including pseudo-labelled ones
        ("class_support", pa.list_(pa.int64())),  # test images
        ("class_accuracy", pa.list_(pa.float64())),
        ("class_precision", pa.list_(pa.float64())),
        ("class_f1", pa.list_(pa.float64())),
        ("confusion", pa.list_(pa.struct([("target", pa.int64()), ("predicted", pa.int64()), ("count", pa.int64())]))),
        ("copies", pa.list_(pa.string())),  # images that the set has twice, in words; null in tables of older versions
        ("seconds", pa.float64()),  # duration of the last step; null if its output existed before
        ("all_seconds", pa.float64()),  # duration of all steps, including shared ones
        ("finished_at", pa.float64()),  # seconds since 1970-01-01 UTC
        ("versions", pa.map_(pa.string(), pa.string())),
        ("git_commit", pa.string()),  # of the code; null outside a checkout
        ("machine", pa.string()),
        ("note", pa.string()),  # what the row lacks and why; null for a finished trial
    ]
)


def trial_row(planned: PlannedTrial, outputs: Outputs, times: Mapping[str, StepTime]) -> dict[str, Any]:
    """The row (TRIAL_SCHEMA) of a finished trial."""
    last = outputs[planned.last_step.step_id]
    assert last.run is not None and isinstance(last.options, RunOptions), "the last step of a trial is a training"
    result = last.run.result
    test = result["splits"][TEST]
    confusion = test["confusion"]
    cells = zip(confusion["target"], confusion["predicted"], confusion["count"], strict=True)
    chosen = result["best_on_validation"]
    step_ids = [step.step_id for step in planned.steps()]
    seconds = [times[step_id].seconds for step_id in step_ids if step_id in times]
    return {
        "trial": planned.trial.trial_id,
        "levels": list(planned.trial.levels.items()),
        "seed": planned.trial.options["seed"],
        "configuration": json.dumps(last.options.recorded(), sort_keys=True, allow_nan=False),
        "run": last.run.run_dir.name,
        "arch": last.options.arch,
        "epochs": result["epoch"],
        "rounds": last.options.rounds if isinstance(last.options, TrainSemiOptions) else 1,
        "optimizer_steps": optimizer_steps_of_step(planned.last_step),
        "earlier_optimizer_steps": _sum_of(map(optimizer_steps_of_step, planned.steps()[:-1])),
        **{name: test.get(name) for name in SCORES},
        "chosen_epoch": chosen and chosen["epoch"],
        "chosen_balanced_accuracy": chosen and chosen["test_scores"]["balanced_accuracy"],
        **_pseudo_label_quality(planned, outputs),
        "class_names": result["class_names"],
        "shot_groups": result["shot_groups"],
        "class_counts": result["class_counts"],
        "class_support": [int(count) for count in test["totals"]["support"]],
        "class_accuracy": test["class_accuracy"],
        "class_precision": test["class_precision"],
        "class_f1": test["class_f1"],
        "confusion": [{"target": t, "predicted": p, "count": n} for t, p, n in cells],
        "copies": copy_lines(result.get("copies", [])),
        "seconds": times[step_ids[-1]].seconds if step_ids[-1] in times else None,
        "all_seconds": sum(seconds) if len(seconds) == len(step_ids) else None,
        "finished_at": time.time(),
        "versions": [(name, version(name)) for name in _PACKAGES] + [("python", platform.python_version())],
        "git_commit": _git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "note": None,
    }


def _pseudo_label_quality(planned: PlannedTrial, outputs: Outputs) -> dict[str, float | None]:
    tables = [outputs[step.step_id].path for step in planned.steps() if step.job == "gen_pseudolabels"]
    quality = read_quality(tables[0]) if tables else {}
    # A table that an older version labelled has no precision of the halves.
    return {f"pseudo_label_{name}": quality.get(name) for name in ("accuracy", "head_precision", "tail_precision")}


def _sum_of(numbers: Iterable[int | None]) -> int | None:
    """None if one of them is unknown."""
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)


def _git_commit() -> str | None:
    root = Path(conf.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None
