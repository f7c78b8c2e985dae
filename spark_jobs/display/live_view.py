"""The live tables in the terminal: a screen that is redrawn, or a line per run and epoch."""

import time
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from longtail.conf.base.shown_text import printable
from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import alert_lines, per_class_table, state_line, summary_line
from longtail.streaming.live.query import LiveQuery
from longtail.streaming.tables.progress import read_progress
from longtail.streaming.tables.schemas import RUNNING
from longtail.streaming.tables.view import newest_runs

_MAX_RUNS_SHOWN = 3


def screen(tables_dir: Path, run_filter: str | None) -> Group | Text:
    """The tables of the most recent runs, newest first; of those whose name contains run_filter, if given."""
    views, num_runs = newest_runs(tables_dir, split=TEST, name_part=run_filter, limit=_MAX_RUNS_SHOWN)
    progress = read_progress(tables_dir)
    if not views:
        return Text(f"{progress or 'waiting for metric events'} ...")
    parts = [Text(f"{progress} ...")] if progress else []
    for view in views:
        parts += [
            Text(printable(view.title)),
            state_line(view.state),
            per_class_table(view.classes),
            Text(summary_line(view.summary)),
        ]
        parts += alert_lines(view.alerts, run=view.run)
    if num_runs > len(views):
        parts.append(Text(f"and {num_runs - len(views)} other runs: choose with --run"))
    return Group(*parts)


def follow(query: LiveQuery, tables_dir: Path, run_filter: str | None) -> None:
    """Show the tables until the query ends: on a terminal redrawn in place, else a line per run and epoch, and when a
    run ends, is lost or comes back."""
    terminal = console()
    if terminal.is_terminal:
        with Live(get_renderable=lambda: screen(tables_dir, run_filter), console=terminal, refresh_per_second=2):
            query.awaitTermination()
        return
    seen: dict[str, int] = {}
    statuses: dict[str, str] = {}
    shown = None
    while query.isActive:
        for view in newest_runs(tables_dir, split=TEST, name_part=run_filter, limit=_MAX_RUNS_SHOWN)[0]:
            if view.summary["epoch"] > seen.get(view.run, 0):
                seen[view.run] = view.summary["epoch"]
                terminal.print(f"{printable(view.title)}: {summary_line(view.summary)}", soft_wrap=True)
            status = view.state["status"]
            if status != statuses.setdefault(view.run, RUNNING):
                statuses[view.run] = status
                terminal.print(Text(f"{printable(view.title)}: ").append(state_line(view.state)), soft_wrap=True)
        if (progress := read_progress(tables_dir)) != shown:
            shown = progress
            if progress:
                terminal.print(f"{progress} ...", soft_wrap=True)
        time.sleep(0.2)
    query.awaitTermination()
