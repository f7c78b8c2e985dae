"""A grid of trials: which labels, which unlabeled data, which pre-training, which rule, over several seeds.

    longtail experiment conf/experiments/digits_small.yaml
    spark-submit spark_jobs/experiment.py conf/experiments/digits_small.yaml

Steps that trials share (a prepared set, a pre-training, a base classifier) run
once; steps that do not wait for each other run side by side on the cluster's
slots. The same command again goes on where it was stopped. Each finished trial
is a row of RESULTS_DIR/trials (spark_jobs/studies/results.py). --dry_run shows
the steps and what they cost, and runs none. The file's layout: conf/experiment.py.
"""

import itertools
import sys
from collections.abc import Sequence
from functools import partial

from pyspark.sql import SparkSession

from longtail.conf.arguments import parse_options
from longtail.conf.experiment import Experiment, read_experiment
from longtail.conf.options.studies import ExperimentOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster import pool
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.studies.cost import StepTime, images_of_step, kind_of
from longtail.spark_jobs.studies.feature_maps import features_file, is_mapped, write_features
from longtail.spark_jobs.studies.plan import PlannedTrial, Step, all_steps, plan
from longtail.spark_jobs.studies.results import (
    read_step_times,
    read_trials,
    trial_file,
    trial_row,
    write_definition,
    write_step_time,
    write_trial,
)
from longtail.spark_jobs.studies.steps import Output, Outputs, run_step
from longtail.spark_jobs.studies.terminal import print_plan, print_scores


def main(argv: Sequence[str]) -> None:
    options = parse_options(ExperimentOptions, argv, prog="longtail experiment")
    experiment = read_experiment(options.file)
    trials = plan(experiment, path=options.file, common=options.step_options())
    if options.dry_run:
        print_plan(trials, read_step_times(options.results_dir))
        return
    write_definition(options.results_dir, experiment, name=options.name)
    to_do = [trial for trial in trials if not _is_done(options, experiment, trial)]
    print(f"{options.name}: {len(trials)} trials, {len(trials) - len(to_do)} of them done already")
    if to_do:
        slots = options.slots or max(step.num_slots for step in all_steps(to_do))
        run_experiment(spark_session("experiment", options, slots=slots), options, experiment, to_do)
    wanted = {trial.trial.trial_id for trial in trials}
    print_scores(experiment, [row for row in read_trials(options.results_dir, options.name) if row["trial"] in wanted])
    print(f"results: {options.results_dir}\nnext: longtail report {options.name} --results_dir {options.results_dir}")


def run_experiment(
    spark: SparkSession, options: ExperimentOptions, experiment: Experiment, trials: Sequence[PlannedTrial]
) -> None:
    """Run what the trials need, steps of one depth side by side, and write a row for each trial that is done.

    A step that fails takes with it only the trials that need it; the first failure is raised when all else is done.
    """
    outputs: Outputs = {}
    failures: list[Exception] = []
    for _, same_depth in itertools.groupby(all_steps(trials), key=lambda step: step.depth):
        ready = [step for step in same_depth if all(other.step_id in outputs for other in step.inputs.values())]
        pooled = [
            pool.Trial(
                name=f"{step.name} {step.step_id}",
                num_slots=step.num_slots,
                run=partial(_timed_step, spark, options, step, outputs),
            )
            for step in ready
        ]
        for step, outcome in zip(ready, pool.run_trials(spark, pooled, num_slots=options.slots), strict=True):
            if outcome.error is None:
                outputs[step.step_id] = outcome.value
            else:
                failures.append(outcome.error)
        _write_finished(spark, options, experiment, trials, outputs)
    if failures:
        raise failures[0]


def _timed_step(spark: SparkSession, options: ExperimentOptions, step: Step, outputs: Outputs) -> Output:
    output = run_step(spark, step, outputs)
    if output.seconds is not None:
        taken = StepTime(step.step_id, *kind_of(step), images_of_step(step), output.seconds)
        write_step_time(options.results_dir, taken)
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
        if trial.last_step.step_id not in outputs or _is_done(options, experiment, trial):
            continue
        if is_mapped(experiment, trial):
            write_features(spark, trial, outputs, results_dir=options.results_dir, experiment=options.name)
        row = trial_row(trial, outputs, times)
        write_trial(options.results_dir, row, trial, experiment=options.name)


def _is_done(options: ExperimentOptions, experiment: Experiment, trial: PlannedTrial) -> bool:
    files = [trial_file(options.results_dir, options.name, trial)]
    if is_mapped(experiment, trial):
        files.append(features_file(options.results_dir, options.name, trial.trial.trial_id))
    return all(file.exists() for file in files)


if __name__ == "__main__":
    run_job("experiment", main, sys.argv[1:])
