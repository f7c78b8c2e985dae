"""Running one step of an experiment: its job, with what the steps before it left."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from longtail.spark_jobs.steps.labelling import DEFAULT_FILENAME, PSEUDO_LABELS_DIRECTORY, gen_pseudolabels
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.steps.self_training import train_rounds
from longtail.spark_jobs.steps.training import train_run
from longtail.spark_jobs.studies.plan import SET, Step
from longtail.training.run_directory import FinishedRun, finished_run, run_paths


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
    options = step.options(**before)
    if step.job == "train_semi":
        train = partial(train_rounds, spark, options, set_dir=set_dir, pseudo_labels=before.get("pseudo_labels"))
    else:
        train = partial(train_run, spark, options, set_dir=set_dir)
    return _trained(train, options, set_dir=set_dir, pseudo_labels=before.get("pseudo_labels"))


def _trained(train: Callable[..., FinishedRun], options: Any, *, set_dir: Path, pseudo_labels: Path | None) -> Output:
    """The run, which may be there already. Of several rounds of self-training, the time is that of those left."""
    first = finished_run(run_paths(options, set_dir=set_dir, pseudo_labels=pseudo_labels).run_dir)
    if first is not None and getattr(options, "rounds", 1) == 1:
        return Output(first.checkpoint, options, first)
    started = time.perf_counter()
    run = train(show_progress=False)
    return Output(run.checkpoint, options, run, time.perf_counter() - started)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
