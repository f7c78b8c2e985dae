"""Running an experiment: its steps side by side on the cluster, and a row per finished trial."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.experiment import Experiment
from longtail.conf.options.studies import ExperimentOptions
from longtail.spark_jobs.cluster.barrier import num_slots
from longtail.spark_jobs.cluster.pool import Outcome, Workload, run_workloads
from longtail.spark_jobs.studies.cost import StepTime, images_of_step, kind_of
from longtail.spark_jobs.studies.feature_maps import features_file, is_mapped, write_feature_map
from longtail.spark_jobs.studies.order import in_groups, in_order
from longtail.spark_jobs.studies.planned import PlannedStep, PlannedTrial, steps_in_order
from longtail.spark_jobs.studies.results import read_step_times, trial_file, write_step_time, write_trial
from longtail.spark_jobs.studies.run_step import Output, Outputs, run_step
from longtail.spark_jobs.studies.side_by_side import group_size, train_group
from longtail.spark_jobs.studies.trial_row import trial_row
from longtail.streaming.runs.descriptions import add_tag


def run_experiment(
    spark: SparkSession, options: ExperimentOptions, experiment: Experiment, trials: Sequence[PlannedTrial]
) -> None:
    """Run the steps of the trials, each as soon as its inputs and a slot are there; write a row per finished trial.

    A failed step affects only the trials that depend on it; the first failure is raised after all other steps.
    """
    trials = in_order(trials)
    size = group_size(spark, options.side_by_side)
    groups = in_groups(steps_in_order(trials), size=size)
    total_slots = options.slots or num_slots(spark)
    names = {step.step_id: _name_of(group) for group in groups for step in group}
    outputs: Outputs = {}
    workloads = [
        Workload(
            name=_name_of(group),
            # Trainings that share a process share a GPU, which is that of all slots.
            num_slots=max(step.num_slots for step in group) if len(group) == 1 else total_slots,
            run=partial(_run_group, spark, options, group, outputs),
            after={names[other.step_id] for step in group for other in step.inputs.values()},
        )
        for group in groups
    ]
    failures: list[Exception] = []
    unwritten = list(trials)

    def on_outcome(outcome: Outcome[None]) -> None:
        if outcome.error is not None:
            failures.append(outcome.error)
        finished = [trial for trial in unwritten if trial.last_step.step_id in outputs]
        unwritten[:] = [trial for trial in unwritten if trial not in finished]
        _write(spark, options, experiment, finished, outputs)

    run_workloads(spark, workloads, num_slots=options.slots, on_outcome=on_outcome)
    if failures:
        raise failures[0]


def _name_of(group: Sequence[PlannedStep]) -> str:
    return f"{group[0].name} {group[0].step_id}"


def _run_group(spark: SparkSession, options: ExperimentOptions, group: Sequence[PlannedStep], outputs: Outputs) -> None:
    """Add the outputs of those of the steps whose inputs are there. Raises the first failure after all of them."""
    ready = [step for step in group if all(other.step_id in outputs for other in step.inputs.values())]
    shared_seconds = train_group(spark, ready, outputs) if len(ready) > 1 else {}
    failures: list[Exception] = []
    for step in ready:
        try:
            outputs[step.step_id] = _run_timed(spark, options, step, outputs, shared_seconds.get(step.step_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other steps run
            failures.append(error)
    if failures:
        raise failures[0]


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


def _write(
    spark: SparkSession,
    options: ExperimentOptions,
    experiment: Experiment,
    trials: Sequence[PlannedTrial],
    outputs: Outputs,
) -> None:
    """Write the rows of finished trials."""
    times = read_step_times(options.results_dir) if trials else {}
    for trial in trials:
        if is_done(options, experiment, trial):
            continue
        if is_mapped(experiment, trial):
            write_feature_map(spark, trial, outputs, results_dir=options.results_dir, experiment=options.name)
        row = trial_row(trial, outputs, times)
        write_trial(options.results_dir, row, trial, experiment=options.name)
