"""Live per-class accuracy of running trainings.

    longtail monitor --runs_dir runs
    spark-submit spark_jobs/monitor.py --runs_dir runs
    longtail monitor --source kafka --bootstrap_servers HOST:9092    # what `longtail relay` sends

A Structured Streaming query over the metric events of all runs. The terminal
shows, per run, each class's accuracy on the test set, its change from the epoch
before, and its predicted against its true share; all tables are kept below
OUTPUT_DIR, for streaming/tables/store.py to read, with --format delta also as
Delta tables, delta/NAME. Ctrl-C ends it; started again,
it goes on. --once processes what is there and ends.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import get_console
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from longtail.conf.alerts import read_alert_rules
from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.live import MonitorOptions
from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.tables import alert_lines, per_class_table, summary_line
from longtail.spark_jobs.steps.event_source import lines_of, packages_of, place_of
from longtail.streaming.live.query import LiveQuery, start_live_query
from longtail.streaming.tables.store import TABLES_DIRECTORY, list_runs
from longtail.streaming.tables.view import newest_runs

_MAX_RUNS_SHOWN = 3


def main(argv: Sequence[str]) -> None:
    options = parse_options(MonitorOptions, argv, prog="longtail monitor")
    if options.source == "files" and not options.runs_dir.is_dir():
        raise UserError(f"there is no directory {options.runs_dir}: name the --runs_dir of the trainings to watch")
    tables_dir = options.output_dir or options.runs_dir / TABLES_DIRECTORY
    query = start_live_query(
        spark_session("monitor", options, packages=packages_of(options)),
        lines_of(options),
        tables_dir=tables_dir,
        trigger=None if options.once else options.trigger,
        rules=read_alert_rules(options.alerts),
        on_update=_sinks(options, tables_dir),
    )
    console = get_console()
    if options.once:
        query.awaitTermination()
        if not list_runs(tables_dir):
            raise UserError(f"no metric event lies in {place_of(options)}: start a training first")
        console.print(screen(tables_dir, options.run))
    elif console.is_terminal:
        with Live(get_renderable=lambda: screen(tables_dir, options.run), console=console, refresh_per_second=2):
            query.awaitTermination()
    else:
        _print_lines(console, tables_dir, query, options.run)
    print(f"tables: {tables_dir}")


def _sinks(options: MonitorOptions, tables_dir: Path) -> Callable[[list[str]], None]:
    """What else is done when the tables of runs have changed. What takes a while to load is loaded if asked for."""
    updates: list[Callable[[list[str]], None]] = []
    if options.tensorboard is not None:
        from longtail.streaming.tables.tensorboard import TensorBoardSink

        updates.append(TensorBoardSink(tables_dir, options.tensorboard).update)
    if options.format == "delta":
        from longtail.streaming.tables.delta import DELTA_DIRECTORY, DeltaTables

        updates.append(DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY).update)

    def update(runs: list[str]) -> None:
        for one in updates:
            one(runs)

    return update


def screen(tables_dir: Path, run_filter: str | None) -> Group | Text:
    """The most recent runs, newest first."""
    views, num_runs = newest_runs(tables_dir, split=TEST, name_part=run_filter, limit=_MAX_RUNS_SHOWN)
    if not views:
        return Text("waiting for metric events ...")
    parts = []
    for view in views:
        parts += [Text(view.run), per_class_table(view.classes), Text(summary_line(view.summary))]
        parts += alert_lines(view.alerts, run=view.run)
    if num_runs > len(views):
        parts.append(Text(f"and {num_runs - len(views)} other runs: choose with --run"))
    return Group(*parts)


def _print_lines(console: Console, tables_dir: Path, query: LiveQuery, run_filter: str | None) -> None:
    """Without a terminal: a line per run and epoch as they come."""
    seen: dict[str, int] = {}
    while query.isActive:
        for view in newest_runs(tables_dir, split=TEST, name_part=run_filter, limit=_MAX_RUNS_SHOWN)[0]:
            if view.summary["epoch"] > seen.get(view.run, 0):
                seen[view.run] = view.summary["epoch"]
                console.print(f"{view.run}: {summary_line(view.summary)}", soft_wrap=True)
        time.sleep(0.2)
    query.awaitTermination()


if __name__ == "__main__":
    run_job("monitor", main, sys.argv[1:])
