"""The live page in a browser: effects of class imbalance on running trainings, per class.

    longtail dashboard --runs_dir runs
    spark-submit spark_jobs/dashboard.py --runs_dir runs
    longtail dashboard --source kafka --bootstrap_servers HOST:9092    # events sent by `longtail relay`

Runs the streaming query over the metric events of all runs, with tables in OUTPUT_DIR, and the page's server:
http://127.0.0.1:8050/, for this machine only; --host and --port change that. With --tables_dir the page shows the
tables that a monitor writes, without Spark. Ctrl-C stops the dashboard; the same command resumes it.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.live import DashboardOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.live_page import served_page
from longtail.spark_jobs.steps.live_query import live_inputs, start_query
from longtail.spark_jobs.steps.run_reports import RunReports
from longtail.streaming.dashboard.server import listening_socket
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY
from longtail.streaming.tables.published import followed_tables, working_tables


def main(argv: Sequence[str]) -> None:
    options = parse_options(DashboardOptions, argv, prog="longtail dashboard")
    inputs = live_inputs(options)
    listening, reports = listening_socket(options.host, options.port), RunReports(options.reports_dir)
    if options.tables_dir:
        with (
            followed_tables(options.tables_dir) as directory,
            served_page(options, TableReader(directory), options.tables_dir, listening, reports=reports) as ended,
        ):
            ended.wait()
        return
    tables_dir = options.output_dir or options.runs_dir / PAGE_TABLES_DIRECTORY
    check_can_be_written(tables_dir, option="--output_dir")
    with (
        working_tables(tables_dir) as (directory, publish),
        served_page(options, TableReader(directory), tables_dir, listening, reports=reports),
        start_query(
            "dashboard", options, inputs, tables_dir=directory, trigger=options.trigger, on_update=publish
        ) as queries,
    ):
        queries.live.awaitTermination()


if __name__ == "__main__":
    run_job("dashboard", main, sys.argv[1:])
