"""Live per-class accuracy of running trainings.

    longtail monitor --runs_dir runs
    spark-submit spark_jobs/monitor.py --runs_dir runs
    longtail monitor --source kafka --bootstrap_servers HOST:9092    # events sent by `longtail relay`

A Structured Streaming query over the metric events of all runs. The terminal shows for each run the test accuracy of
every class, its change, and its predicted and true share. All tables are written to OUTPUT_DIR (read by
streaming/tables/reading.py), with --format delta as Delta tables too. Ctrl-C stops the monitor; the same command
resumes it. --once processes the events that exist and ends. --mlflow logs the runs in MLflow, also those that are over.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.live import MonitorOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.live_view import follow, screen
from longtail.spark_jobs.steps.event_source import shown_source
from longtail.spark_jobs.steps.live_query import live_inputs, start_query
from longtail.spark_jobs.steps.live_sinks import update_sinks
from longtail.spark_jobs.tracking.monitoring import logged_runs
from longtail.streaming.tables.manifest import TABLES_DIRECTORY, list_runs
from longtail.streaming.tables.published import Publish, working_tables


def main(argv: Sequence[str]) -> None:
    options = parse_options(MonitorOptions, argv, prog="longtail monitor")
    if options.source == "files" and not options.runs_dir.is_dir():
        raise UserError(f"there is no directory {options.runs_dir}: name the --runs_dir of the trainings to watch")
    tables_dir = options.output_dir or options.runs_dir / TABLES_DIRECTORY
    check_can_be_written(tables_dir, option="--output_dir")
    with working_tables(tables_dir) as (directory, publish), logged_runs(options, directory, also=publish) as update:
        _monitor(options, directory, update)
    print(f"tables: {tables_dir}")


def _monitor(options: MonitorOptions, tables_dir: Path, publish: Publish) -> None:
    as_delta = options.format == "delta"
    on_update = update_sinks(tables_dir, tensorboard=options.tensorboard, as_delta=as_delta, also=publish)
    with start_query(
        "monitor", options, live_inputs(options), tables_dir=tables_dir,
        trigger=None if options.once else options.trigger, on_update=on_update,
    ) as queries:  # fmt: skip
        if not options.once:
            follow(queries.live, tables_dir, options.run)
        else:
            queries.finish()
            if not list_runs(tables_dir):
                raise UserError(f"no metric event in {shown_source(options)}: start a training first")
            console().print(screen(tables_dir, options.run))


if __name__ == "__main__":
    run_job("monitor", main, sys.argv[1:])
