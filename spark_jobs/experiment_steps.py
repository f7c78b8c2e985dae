"""Running one step of an experiment: its job, with what the steps before it left."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from spark_jobs.experiment_plan import SET, Step
from spark_jobs.gen_pseudolabels import DEFAULT_FILENAME, gen_pseudolabels
from spark_jobs.prepare import prepare, prepared_set_dir
from spark_jobs.runs import train_run
from training.run_directory import FinishedRun, finished_run, run_paths

PSEUDO_LABELS_DIRECTORY = "pseudo_labels"


@dataclass(frozen=True)
class Output:
    """What a step leaves to those after it.

    path: the prepared set, the checkpoint, or the table of pseudo-labels
    run: of a training, with its result
    seconds: how long it took; None if it was there already
    """

    path: Path
    options: Any
    run: FinishedRun | None = None
    seconds: float | None = None


Outputs = dict[str, Output]
"""By step_id."""


def run_step(spark: SparkSession, step: Step, outputs: Outputs) -> Output:
    """Run the step, or find what it left when it ran before."""
    before = {name: outputs[other.step_id].path for name, other in step.inputs.items()}
    if step.job == "prepare":
        options = step.options()
        set_dir = prepared_set_dir(options)
        seconds = None if set_dir.exists() else _seconds(lambda: prepare(spark, options))
        return Output(set_dir, options, seconds=seconds)
    set_dir = before.pop(SET)
    if step.job == "gen_pseudolabels":
        # Beside the run that makes them: one labeller may label several unlabeled sets.
        output_dir = before["resume"].parent / PSEUDO_LABELS_DIRECTORY / set_dir.name
        options = step.options(**before, output_dir=output_dir)
        table = output_dir / DEFAULT_FILENAME
        labelled = table.exists()
        seconds = None if labelled else _seconds(lambda: gen_pseudolabels(spark, options, set_dir=set_dir))
        return Output(table, options, seconds=seconds)
    options, pseudo_labels = step.options(**before), before.get("pseudo_labels")
    run_dir = run_paths(options, set_dir=set_dir, pseudo_labels=pseudo_labels).run_dir
    seconds = None
    if finished_run(run_dir) is None:
        seconds = _seconds(
            lambda: train_run(spark, options, set_dir=set_dir, pseudo_labels=pseudo_labels, show_progress=False)
        )
    run = finished_run(run_dir)
    assert run is not None, "train_run raises or finishes the run"
    return Output(run.checkpoint, options, run, seconds)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
