"""The results table: a row a trial, whatever experiment it belongs to.

    RESULTS_DIR/trials/experiment=NAME/TRIAL.parquet

A finished trial's row is a file of its own, written whole, so a killed experiment
loses none; Spark and pyarrow read RESULTS_DIR/trials as one table.
"""

import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from longtail import conf
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.experiment import Experiment, read_experiment
from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.steps.label_quality import read_quality
from longtail.spark_jobs.studies.cost import StepTime
from longtail.spark_jobs.studies.plan import PlannedTrial
from longtail.spark_jobs.studies.steps import Outputs

TRIALS_DIRECTORY = "trials"
TIMES_DIRECTORY = "step_times"
DEFINITIONS_DIRECTORY = "experiments"
EXPERIMENT = "experiment"
SCORES = (
    "accuracy", "balanced_accuracy", "many_shot_accuracy", "medium_shot_accuracy", "few_shot_accuracy", "loss",
    "top5_accuracy", "macro_f1", "expected_calibration_error",
)  # fmt: skip
"""Scores of the test set at the last epoch, as training/metrics.py defines them; null where there is none."""

_PACKAGES = ("longtail", "torch", "torchvision", "pyspark", "numpy")

TRIAL_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),  # its id: changes with every option
        ("levels", pa.map_(pa.string(), pa.string())),  # axis -> level
        ("seed", pa.int64()),
        ("configuration", pa.string()),  # JSON: the options of its last step
        ("run", pa.string()),  # directory of the last step's run
        ("arch", pa.string()),
        ("epochs", pa.int64()),
        *((name, pa.float64()) for name in SCORES),
        ("chosen_epoch", pa.int64()),  # by validation data; null without
        ("chosen_balanced_accuracy", pa.float64()),  # of the test set at that epoch
        ("pseudo_label_accuracy", pa.float64()),  # share of pseudo-labels that are right; null without
        ("class_names", pa.list_(pa.string())),
        ("shot_groups", pa.list_(pa.string())),
        ("class_counts", pa.list_(pa.int64())),  # training images, pseudo-labelled ones included
        ("class_support", pa.list_(pa.int64())),  # test images
        ("class_accuracy", pa.list_(pa.float64())),
        ("class_precision", pa.list_(pa.float64())),
        ("class_f1", pa.list_(pa.float64())),
        ("confusion", pa.list_(pa.struct([("target", pa.int64()), ("predicted", pa.int64()), ("count", pa.int64())]))),
        ("seconds", pa.float64()),  # of its last step; null if that was there before the experiment
        ("all_seconds", pa.float64()),  # of all its steps, shared ones included
        ("finished_at", pa.float64()),  # seconds since 1970-01-01 UTC
        ("versions", pa.map_(pa.string(), pa.string())),
        ("git_commit", pa.string()),  # of longtail's code; null if it is not a checkout
        ("machine", pa.string()),
    ]
)


def trial_row(planned: PlannedTrial, outputs: Outputs, times: Mapping[str, StepTime]) -> dict[str, Any]:
    """The row (TRIAL_SCHEMA) of a trial whose steps are all done."""
    last = outputs[planned.last_step.step_id]
    assert last.run is not None, "the last step of a trial is a training"
    result = last.run.result
    test = result["splits"][TEST]
    confusion = test["confusion"]
    cells = zip(confusion["target"], confusion["predicted"], confusion["count"], strict=True)
    chosen = result["best_on_validation"]
    seconds = [times[step.step_id].seconds if step.step_id in times else None for step in planned.steps()]
    return {
        "trial": planned.trial.trial_id,
        "levels": list(planned.trial.levels.items()),
        "seed": planned.trial.options["seed"],
        "configuration": json.dumps(last.options.model_dump(mode="json"), sort_keys=True),
        "run": last.run.run_dir.name,
        "arch": last.options.arch,
        "epochs": result["epoch"],
        **{name: test.get(name) for name in SCORES},
        "chosen_epoch": chosen and chosen["epoch"],
        "chosen_balanced_accuracy": chosen and chosen["test_scores"]["balanced_accuracy"],
        "pseudo_label_accuracy": _pseudo_label_accuracy(planned, outputs),
        "class_names": result["class_names"],
        "shot_groups": result["shot_groups"],
        "class_counts": result["class_counts"],
        "class_support": [int(count) for count in test["totals"]["support"]],
        "class_accuracy": test["class_accuracy"],
        "class_precision": test["class_precision"],
        "class_f1": test["class_f1"],
        "confusion": [{"target": t, "predicted": p, "count": n} for t, p, n in cells],
        "seconds": seconds[-1],
        "all_seconds": None if None in seconds else sum(seconds),
        "finished_at": time.time(),
        "versions": [(name, version(name)) for name in _PACKAGES] + [("python", platform.python_version())],
        "git_commit": _git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _pseudo_label_accuracy(planned: PlannedTrial, outputs: Outputs) -> float | None:
    tables = [outputs[step.step_id].path for step in planned.steps() if step.job == "gen_pseudolabels"]
    return read_quality(tables[0])["accuracy"] if tables else None


def _git_commit() -> str | None:
    root = Path(conf.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


def trial_file(results_dir: Path, experiment: str, planned: PlannedTrial) -> Path:
    return results_dir / TRIALS_DIRECTORY / f"{EXPERIMENT}={experiment}" / f"{planned.trial.trial_id}.parquet"


def write_trial(results_dir: Path, row: dict[str, Any], planned: PlannedTrial, *, experiment: str) -> None:
    table = pa.Table.from_pylist([row], schema=TRIAL_SCHEMA)
    write_atomically(trial_file(results_dir, experiment, planned), lambda temporary: pq.write_table(table, temporary))


def read_trials(results_dir: Path, experiment: str) -> list[dict[str, Any]]:
    """The rows of an experiment, also of trials that its file has no more; none if there is no table."""
    directory = results_dir / TRIALS_DIRECTORY / f"{EXPERIMENT}={experiment}"
    if not directory.is_dir():
        return []
    rows = ds.dataset(directory, schema=TRIAL_SCHEMA, format="parquet").to_table().to_pylist()
    return [{**row, "levels": dict(row["levels"]), "versions": dict(row["versions"])} for row in rows]


def write_definition(results_dir: Path, experiment: Experiment, *, name: str) -> None:
    """Keep what the experiment is beside its results, for the report."""
    write_json_atomically(_definition_file(results_dir, name), experiment.model_dump(mode="json"))


def read_definition(results_dir: Path, name: str) -> Experiment:
    """Raises UserError if no experiment of this name ran."""
    file = _definition_file(results_dir, name)
    if not file.exists():
        there = sorted(other.stem for other in file.parent.glob("[!.]*.json"))
        known = f"there are {', '.join(there)}" if there else "run `longtail experiment FILE` first"
        raise UserError(f"{results_dir} has no experiment {name}: {known}")
    return read_experiment(file)


def _definition_file(results_dir: Path, name: str) -> Path:
    return results_dir / DEFINITIONS_DIRECTORY / f"{name}.json"


def write_step_time(results_dir: Path, taken: StepTime) -> None:
    write_json_atomically(results_dir / TIMES_DIRECTORY / f"{taken.step_id}.json", dataclasses.asdict(taken))


def read_step_times(results_dir: Path) -> dict[str, StepTime]:
    """By step, how long those took that were run before."""
    files = (results_dir / TIMES_DIRECTORY).glob("[!.]*.json")
    times = (StepTime(**json.loads(file.read_text(encoding="utf-8"))) for file in files)
    return {taken.step_id: taken for taken in times}
