"""List, name, tag, hide, archive, delete, restore, export and import runs, wherever they are shown.

    longtail runs list --runs_dir runs
    longtail runs rename RUN 'LDAM, seed 1'
    longtail runs delete '*LDAM*' --dry_run
    spark-submit spark_jobs/runs.py list --runs_dir runs

What a user says of a run is in RUNS_DIR/descriptions/RUN.json and never part of the run. delete moves a run's
directory, its event files and its live tables to trash/ beside them; restore brings it back until --keep_days are over.
Monitors and dashboards that are running follow within a second or two, TensorBoard files and Delta tables with them.
Starts no Spark.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.options.runs import RunsOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.run_actions import act


def main(argv: Sequence[str]) -> None:
    act(parse_options(RunsOptions, argv, prog="longtail runs"))


if __name__ == "__main__":
    run_job("runs", main, sys.argv[1:])
