"""Live per-class accuracy of running trainings.

    longtail monitor --runs_dir runs
    spark-submit spark_jobs/monitor.py --runs_dir runs

A Structured Streaming query over the metric events of all runs. The terminal
shows, per run, each class's accuracy on the test set, its change from the epoch
before, and its predicted against its true share; the tables are kept as
OUTPUT_DIR/per_class.parquet, epochs.parquet and alerts.parquet. Ctrl-C ends it; started again,
it goes on. --once processes what is there and ends.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from rich import get_console
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from conf.alerts import read_alert_rules
from conf.arguments import parse_options
from conf.errors import UserError
from conf.files import write_atomically
from conf.schema import MonitorOptions
from data.contract import TEST
from spark_jobs.cli import run_job
from spark_jobs.session import spark_session
from streaming.live import LiveTables, LiveView, start_live_query
from streaming.tables import alert_lines, latest_summaries, per_class_table, summary_line
from streaming.writer import EVENTS_DIRECTORY

PER_CLASS_FILE = "per_class.parquet"
EPOCHS_FILE = "epochs.parquet"
ALERTS_FILE = "alerts.parquet"
_MAX_RUNS_SHOWN = 3


def main(argv: Sequence[str]) -> None:
    options = parse_options(MonitorOptions, argv, prog="longtail monitor")
    if not options.runs_dir.is_dir():
        raise UserError(f"there is no directory {options.runs_dir}: name the --runs_dir of the trainings to watch")
    output_dir = options.output_dir or options.runs_dir / "analytics"
    rules = read_alert_rules(options.alerts)
    view = LiveView()

    def keep(tables: LiveTables) -> None:
        write_tables(tables, output_dir)
        view.update(tables)

    query = start_live_query(
        spark_session("monitor", options),
        options.runs_dir / EVENTS_DIRECTORY,
        on_tables=keep,
        state_dir=output_dir / "state",
        trigger=None if options.once else options.trigger,
        rules=rules,
    )
    console = get_console()
    if console.is_terminal and not options.once:
        with Live(get_renderable=lambda: screen(view, options.run), console=console, refresh_per_second=2):
            query.awaitTermination()
    elif options.once:
        query.awaitTermination()
        if not view.per_class:  # nothing new since the last time: the tables on disk are the current ones
            view.update(read_tables(output_dir))
        console.print(screen(view, options.run))
    else:
        _print_lines(console, view, query, options.run)
    print(f"tables: {output_dir / PER_CLASS_FILE}, {output_dir / EPOCHS_FILE}")


def write_tables(tables: LiveTables, output_dir: Path) -> None:
    write_atomically(output_dir / PER_CLASS_FILE, lambda file: pq.write_table(tables.per_class, file))
    write_atomically(output_dir / EPOCHS_FILE, lambda file: pq.write_table(tables.epochs, file))
    write_atomically(output_dir / ALERTS_FILE, lambda file: pq.write_table(tables.alerts, file))


def read_tables(output_dir: Path) -> LiveTables:
    """The tables that an earlier monitor left. Raises UserError if there are none: no event was ever seen."""
    try:
        per_class, epochs, found = (
            pq.read_table(output_dir / name) for name in (PER_CLASS_FILE, EPOCHS_FILE, ALERTS_FILE)
        )
    except FileNotFoundError:
        raise UserError(f"no metric event lies beside {output_dir}: start a training first") from None
    return LiveTables(per_class=per_class, epochs=epochs, alerts=found)


def screen(view: LiveView, run_filter: str | None) -> Group | Text:
    """The most recent runs, newest first."""
    newest = latest_summaries(view.epochs, split=TEST)
    runs = [row for run, row in newest.items() if run_filter is None or run_filter in run]
    runs.sort(key=lambda row: row["emitted_at"], reverse=True)
    if not runs:
        return Text("waiting for metric events ...")
    parts = []
    for row in runs[:_MAX_RUNS_SHOWN]:
        of_run = [r for r in view.per_class if r["run"] == row["run"] and r["split"] == TEST]
        parts += [Text(row["run"]), per_class_table(of_run), Text(summary_line(row))]
        parts += alert_lines(view.alerts, run=row["run"])
    if len(runs) > _MAX_RUNS_SHOWN:
        parts.append(Text(f"and {len(runs) - _MAX_RUNS_SHOWN} older runs: choose with --run"))
    return Group(*parts)


def _print_lines(console: Console, view: LiveView, query, run_filter: str | None) -> None:
    """Without a terminal: a line per run and epoch as they come."""
    seen: dict[str, int] = {}
    while query.isActive:
        for run, row in latest_summaries(view.epochs, split=TEST).items():
            if row["epoch"] > seen.get(run, 0) and (run_filter is None or run_filter in run):
                seen[run] = row["epoch"]
                console.print(f"{run}: {summary_line(row)}", soft_wrap=True)
        time.sleep(0.2)
    query.awaitTermination()


if __name__ == "__main__":
    run_job("monitor", main, sys.argv[1:])
