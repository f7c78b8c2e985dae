"""Run a grid of trials: combinations of labels, unlabeled data, pre-training and training rule, over several seeds.

    longtail experiment digits_small
    spark-submit spark_jobs/experiment.py digits_small

Steps that trials share (a prepared set, a pre-training, a base classifier) run
once, independent ones side by side on the cluster's slots; seed by seed, and trials
that share a step are finished together. The same command continues an interrupted
experiment; with --trials, on another machine. Each finished trial is a row of
RESULTS_DIR/trials (spark_jobs/studies/results.py). --dry_run shows the steps, their
cost and which differences the seeds can show. File format: conf/experiment.py.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.experiment import read_experiment
from longtail.conf.next_command import next_command
from longtail.conf.options.studies import ExperimentOptions, ReportOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.studies.kept_trials import kept_trials, take_over_trials
from longtail.spark_jobs.studies.plan import plan
from longtail.spark_jobs.studies.planned import all_steps
from longtail.spark_jobs.studies.results import read_step_times, read_trials, write_definition
from longtail.spark_jobs.studies.run import is_done, run_experiment
from longtail.spark_jobs.studies.terminal import print_plan, print_scores


def main(argv: Sequence[str]) -> None:
    options = parse_options(ExperimentOptions, argv, prog="longtail experiment")
    experiment = read_experiment(options.experiment)
    trials = plan(experiment, source=options.experiment, common=options.step_options(), num_seeds=options.num_seeds)
    if options.dry_run:
        done = read_trials(options.results_dir, options.name)
        if options.trials is not None:
            done += kept_trials(options.trials)[1]
        print_plan(experiment, trials, read_step_times(options.results_dir), done)
        return
    check_can_be_written(options.results_dir, option="--results_dir")
    check_can_be_written(options.runs_dir, option="--runs_dir")
    write_definition(options.results_dir, experiment, name=options.name)
    if options.trials is not None:
        take_over_trials(options.trials, trials, results_dir=options.results_dir, experiment=options.name)
    to_do = [trial for trial in trials if not is_done(options, experiment, trial)]
    print(f"{options.name}: {len(trials)} trials, {len(trials) - len(to_do)} of them done already")
    if to_do:
        slots = options.slots or max(step.num_slots for step in all_steps(to_do))
        run_experiment(spark_session("experiment", options, slots=slots, networks=True), options, experiment, to_do)
    planned_ids = {trial.trial.trial_id for trial in trials}
    rows = read_trials(options.results_dir, options.name)
    print_scores(experiment, [row for row in rows if row["trial"] in planned_ids])
    command = next_command("report", ReportOptions, options, experiment=options.name)
    print(f"results: {options.results_dir}\nnext: {command}")


if __name__ == "__main__":
    run_job("experiment", main, sys.argv[1:])
