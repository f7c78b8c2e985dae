"""The live page in a browser: effects of class imbalance on running trainings, per class.

    longtail dashboard --runs_dir runs
    spark-submit spark_jobs/dashboard.py --runs_dir runs
    longtail dashboard --source kafka --bootstrap_servers HOST:9092    # events sent by `longtail relay`

Runs the streaming query over the metric events of all runs, with tables in OUTPUT_DIR, and the page's server:
http://127.0.0.1:8050/, for this machine only; --host and --port change that. With --tables_dir the page shows the
tables that a monitor writes, without Spark. Ctrl-C stops the dashboard; the same command resumes it.
"""

import sys
from collections.abc import Callable, Sequence
from socket import socket
from threading import Event

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.live import DashboardOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.live_query import live_inputs, start_query
from longtail.streaming.dashboard.server import address, dashboard_page, is_private, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY
from longtail.streaming.tables.published import followed_tables, working_tables


def main(argv: Sequence[str]) -> None:
    options = parse_options(DashboardOptions, argv, prog="longtail dashboard")
    inputs = live_inputs(options)
    listening = listening_socket(options.host, options.port)
    if options.tables_dir:
        with followed_tables(options.tables_dir) as directory:
            _serve(options, TableReader(directory), listening, Event.wait)
        return
    tables_dir = options.output_dir or options.runs_dir / PAGE_TABLES_DIRECTORY
    check_can_be_written(tables_dir, option="--output_dir")
    with working_tables(tables_dir) as (directory, publish):

        def keep(ended: Event) -> None:
            with start_query(
                "dashboard", options, inputs, tables_dir=directory, trigger=options.trigger, on_update=publish
            ) as queries:
                queries.live.awaitTermination()

        _serve(options, TableReader(directory), listening, keep)


def _serve(options: DashboardOptions, tables: TableReader, listening: socket, until: Callable[[Event], object]) -> None:
    page = dashboard_page(tables.read, tables.version, host=options.host, notes=tables.notes)
    with serving(page, listening) as ended:
        print(f"dashboard: {address(listening)} (Ctrl-C ends it)", flush=True)
        if not is_private(listening):
            warning = "everybody who reaches this machine can read the page; it asks for no password"
            print(f"--host {options.host}: {warning}", file=sys.stderr, flush=True)
        until(ended)


if __name__ == "__main__":
    run_job("dashboard", main, sys.argv[1:])
