"""Running an experiment: its steps side by side on the cluster, and a row per finished trial."""

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.experiment import Experiment
from longtail.conf.options.studies import ExperimentOptions
from longtail.spark_jobs.cluster.barrier import num_slots
from longtail.spark_jobs.cluster.pool import Workload, run_workloads
from longtail.spark_jobs.studies.cost import StepTime, images_of_step, kind_of
from longtail.spark_jobs.studies.feature_maps import features_file, is_mapped, write_feature_map
from longtail.spark_jobs.studies.order import batches_of_trials
from longtail.spark_jobs.studies.planned import PlannedStep, PlannedTrial, all_steps
from longtail.spark_jobs.studies.results import read_step_times, trial_file, write_step_time, write_trial
from longtail.spark_jobs.studies.run_step import Output, Outputs, run_step
from longtail.spark_jobs.studies.side_by_side import train_in_groups
from longtail.spark_jobs.studies.trial_row import trial_row
from longtail.streaming.runs.descriptions import add_tag


def run_experiment(
    spark: SparkSession, options: ExperimentOptions, experiment: Experiment, trials: Sequence[PlannedTrial]
) -> None:
    """Run the steps of the trials batch by batch, those of one depth side by side; write a row per finished trial.

    A failed step affects only the trials that depend on it; the first failure is raised after all other steps.
    """
    outputs: Outputs = {}
    failures: list[Exception] = []
    for batch in batches_of_trials(trials, num_slots=options.slots or num_slots(spark)):
        failures += _run_batch(spark, options, experiment, batch, outputs)
    if failures:
        raise failures[0]


def _run_batch(
    spark: SparkSession,
    options: ExperimentOptions,
    experiment: Experiment,
    trials: Sequence[PlannedTrial],
    outputs: Outputs,
) -> list[Exception]:
    """Run the steps that have no output yet, add their outputs, and return the failures."""
    failures: list[Exception] = []
    to_run = [step for step in all_steps(trials) if step.step_id not in outputs]
    for _, same_depth in itertools.groupby(to_run, key=lambda step: step.depth):
        ready = [step for step in same_depth if all(other.step_id in outputs for other in step.inputs.values())]
        # What fails there is run again, by itself, or refused, below.
        shared_seconds = train_in_groups(spark, ready, outputs, size=options.side_by_side)
        workloads = [
            Workload(
                name=f"{step.name} {step.step_id}",
                num_slots=step.num_slots,
                run=partial(_run_timed, spark, options, step, outputs, shared_seconds.get(step.step_id)),
            )
            for step in ready
        ]
        for step, outcome in zip(ready, run_workloads(spark, workloads, num_slots=options.slots), strict=True):
            if outcome.value is not None:
                outputs[step.step_id] = outcome.value
            elif outcome.error is not None:
                failures.append(outcome.error)
        _write_finished(spark, options, experiment, trials, outputs)
    return failures


def is_done(options: ExperimentOptions, experiment: Experiment, trial: PlannedTrial) -> bool:
    """Whether the trial's row, and its features if the experiment maps them, are written."""
    files = [trial_file(options.results_dir, options.name, trial)]
    if is_mapped(experiment, trial):
        files.append(features_file(options.results_dir, options.name, trial.trial.trial_id))
    return all(file.exists() for file in files)


def _run_timed(
    spark: SparkSession,
    options: ExperimentOptions,
    step: PlannedStep,
    outputs: Outputs,
    shared_seconds: float | None,
) -> Output:
    """Run a step; shared_seconds: its share of the time that it ran with others already."""
    output = run_step(spark, step, outputs)
    if shared_seconds is not None:
        output = replace(output, seconds=(output.seconds or 0) + shared_seconds)
    if output.run is not None:
        with suppress(UserError):  # a damaged description is no reason to end an experiment
            add_tag(options.runs_dir, output.run.run_dir.name, options.name)
    if output.seconds is not None:
        time = StepTime(step.step_id, *kind_of(step), images_of_step(step), output.seconds)
        write_step_time(options.results_dir, time)
        print(f"{step.job} {output.path}: {output.seconds:.0f} s", flush=True)
    return output


def _write_finished(
    spark: SparkSession,
    options: ExperimentOptions,
    experiment: Experiment,
    trials: Sequence[PlannedTrial],
    outputs: Outputs,
) -> None:
    times = read_step_times(options.results_dir)
    for trial in trials:
        if trial.last_step.step_id not in outputs or is_done(options, experiment, trial):
            continue
        if is_mapped(experiment, trial):
            write_feature_map(spark, trial, outputs, results_dir=options.results_dir, experiment=options.name)
        row = trial_row(trial, outputs, times)
        write_trial(options.results_dir, row, trial, experiment=options.name)
