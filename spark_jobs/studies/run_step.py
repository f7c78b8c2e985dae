"""Running one step of an experiment: its job, with the outputs of its inputs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pyspark.sql import SparkSession

from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.data.new_set import is_prepared
from longtail.spark_jobs.steps.label_quality import is_labelled
from longtail.spark_jobs.steps.labelling import DEFAULT_FILENAME, PSEUDO_LABELS_DIRECTORY, gen_pseudolabels
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir
from longtail.spark_jobs.steps.self_training import train_rounds
from longtail.spark_jobs.steps.training import train_run
from longtail.spark_jobs.studies.planned import SET, PlannedStep
from longtail.training.run_directory import FinishedRun, finished_run, run_paths


@dataclass(frozen=True)
class Output:
    """The output of a step.

    path: the prepared set, the checkpoint, or the table of pseudo-labels
    run: the finished run, if the step is a training
    seconds: duration; None if the output existed already
    """

    path: Location
    options: DataOptions
    run: FinishedRun | None = None
    seconds: float | None = None


Outputs = dict[str, Output]
"""By step_id."""


def run_step(spark: SparkSession, step: PlannedStep, outputs: Outputs) -> Output:
    """Run the step, or find its output if it ran before."""
    paths = {name: outputs[other.step_id].path for name, other in step.inputs.items()}
    if step.job == "prepare":
        options = step.options()
        set_dir = prepared_set_dir(options)
        seconds = None if is_prepared(set_dir) else _seconds(lambda: prepare(spark, options))
        return Output(set_dir, options, seconds=seconds)
    set_dir = paths.pop(SET)
    if step.job == "gen_pseudolabels":
        # Beside the run of the labeller, which may label several unlabeled sets, and one set in several ways.
        labelling = step.options(**paths)
        assert isinstance(labelling, GenPseudolabelsOptions)
        name = set_dir.name + labelling.labels_name().removeprefix(labelling.set_name())
        output_dir = paths["resume"].parent / PSEUDO_LABELS_DIRECTORY / name
        return _labelled(spark, step.options(**paths, output_dir=output_dir), output_dir, set_dir=set_dir)
    return _trained(spark, step.options(**paths), set_dir=set_dir, pseudo_labels=paths.get("pseudo_labels"))


def _labelled(spark: SparkSession, options: DataOptions, output_dir: Location, *, set_dir: Location) -> Output:
    assert isinstance(options, GenPseudolabelsOptions)
    table = output_dir / DEFAULT_FILENAME
    seconds = None
    if not is_labelled(table):
        seconds = _seconds(lambda: gen_pseudolabels(spark, options, set_dir=set_dir))
    return Output(table, options, seconds=seconds)


def _trained(spark: SparkSession, options: DataOptions, *, set_dir: Location, pseudo_labels: Location | None) -> Output:
    """The run, which may be finished already; of several rounds of self-training, `seconds` counts those that ran."""
    assert isinstance(options, RunOptions)
    num_rounds = options.rounds if isinstance(options, TrainSemiOptions) else 1
    first_round = finished_run(run_paths(options, set_dir=set_dir, pseudo_labels=pseudo_labels).run_dir)
    if first_round is not None and num_rounds == 1:
        return Output(first_round.checkpoint, options, first_round)
    train = partial(train_run, spark, options, set_dir=set_dir)
    if isinstance(options, TrainSemiOptions):
        train = partial(train_rounds, spark, options, set_dir=set_dir, pseudo_labels=pseudo_labels)
    started = time.perf_counter()
    run = train(show_progress=False)
    return Output(run.checkpoint, options, run, time.perf_counter() - started)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
