"""The live page in a browser: effects of class imbalance on running trainings, per class.

    longtail dashboard --runs_dir runs
    spark-submit spark_jobs/dashboard.py --runs_dir runs
    longtail dashboard --source kafka --bootstrap_servers HOST:9092    # events sent by `longtail relay`

Runs the streaming query over the metric events of all runs and the page's server in one process. The page is at
http://127.0.0.1:8050/, for this machine only; --host and --port change that. The query writes its tables to OUTPUT_DIR,
by default another than the monitor's, so that both may run. With --tables_dir the page shows the tables that a monitor
writes, without Spark. Ctrl-C stops the dashboard; the same command resumes it.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.live import DashboardOptions
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.steps.live_query import live_inputs, start_query
from longtail.streaming.dashboard.server import address, dashboard, is_private, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY


def main(argv: Sequence[str]) -> None:
    options = parse_options(DashboardOptions, argv, prog="longtail dashboard")
    inputs = live_inputs(options)
    tables = TableReader(options.tables_dir or options.output_dir or options.runs_dir / PAGE_TABLES_DIRECTORY)
    if not options.tables_dir:
        check_can_be_written(tables.directory, option="--output_dir")
    listening = listening_socket(options.host, options.port)
    page = dashboard(tables.read, tables.version, host=options.host, notes=tables.notes)
    with serving(page, listening) as ended:
        print(f"dashboard: {address(listening)} (Ctrl-C ends it)", flush=True)
        if not is_private(listening):
            print(
                f"--host {options.host}: everybody who reaches this machine can read the page; it asks for no password",
                file=sys.stderr,
                flush=True,
            )
        if options.tables_dir:
            ended.wait()
            return
        with start_query("dashboard", options, inputs, tables_dir=tables.directory, trigger=options.trigger) as queries:
            queries.live.awaitTermination()


if __name__ == "__main__":
    run_job("dashboard", main, sys.argv[1:])
