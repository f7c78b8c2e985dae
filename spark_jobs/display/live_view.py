"""The live tables in the terminal: a screen that is redrawn, or a line per run and epoch."""

import sys
import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from longtail.conf.base.shown_text import printable
from longtail.conf.vocabulary import TEST
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.tables import MAX_CLASSES_SHOWN, alert_lines, per_class_table, state_line, summary_line
from longtail.streaming.dashboard.phases import CONTRASTIVE, kind_of_run
from longtail.streaming.live.query import LiveQuery
from longtail.streaming.tables.progress import read_progress
from longtail.streaming.tables.schemas import RUNNING
from longtail.streaming.tables.view import RunSnapshot, newest_runs

_MAX_RUNS_SHOWN = 3
_MIN_CLASSES_SHOWN = 2
_ALERTS_THAT_FIT = 2


def screen(tables_dir: Path, run_filter: str | None, *, height: int | None = None) -> Group | Text:
    """The tables of the most recent runs, newest first; of those whose name contains run_filter, if given.

    height: lines of the terminal, if all must fit: then the newest run has a table, of as many classes of head and tail
        as there is room for, and the other runs a line each
    """
    views, num_runs = newest_runs(tables_dir, split=TEST, name_part=run_filter, limit=_MAX_RUNS_SHOWN)
    progress = read_progress(tables_dir)
    if not views:
        return Text(f"{progress or 'waiting for metric events'} ...")
    top: list[RenderableType] = [Text(f"{progress} ...")] if progress else []
    more = num_runs - len(views)
    bottom = [Text(f"and {more} other runs: choose with --run")] if more else []
    if height is None:
        return Group(*top, *(part for view in views for part in _run_parts(view)), *bottom)
    newest, *others = views
    for view in others:
        line = f"{printable(view.title)}: {view.state['status']}, {summary_line(view.summary)}"
        bottom.insert(-1 if more else len(bottom), Text(line, no_wrap=True, overflow="ellipsis"))
    fixed = Group(*top, *_run_parts(newest, max_classes=_MIN_CLASSES_SHOWN, max_alerts=_ALERTS_THAT_FIT), *bottom)
    # The row between head and tail is in the smallest table already.
    room = _MIN_CLASSES_SHOWN + max(height - _num_lines(fixed), 0)
    return Group(*top, *_run_parts(newest, max_classes=room, max_alerts=_ALERTS_THAT_FIT), *bottom)


def _run_parts(
    view: RunSnapshot, *, max_classes: int = MAX_CLASSES_SHOWN, max_alerts: int = sys.maxsize
) -> list[RenderableType]:
    """Title, state, table of classes, summary and alerts of a run."""
    alerts, kind = alert_lines(view.alerts, run=view.run), kind_of_run(view.summary["phase"])
    table = per_class_table(view.classes, max_classes=max_classes, has_classes=kind.has_classes)
    return [
        Text(printable(view.title)),
        state_line(view.state),
        *([] if kind is CONTRASTIVE else [table]),  # which has neither classes nor answers
        Text(summary_line(view.summary)),
        *alerts[:max_alerts],
        *([Text(f"and {len(alerts) - max_alerts} more alerts")] if len(alerts) > max_alerts else []),
    ]


def _num_lines(shown: RenderableType) -> int:
    terminal: Console = console()
    return len(terminal.render_lines(shown, terminal.options.update(height=None), pad=False))


def follow(query: LiveQuery, tables_dir: Path, run_filter: str | None) -> None:
    """Show the tables until the query ends: on a terminal redrawn in place, else a line per run and epoch, and when a
    run ends, is lost or comes back."""
    terminal = console()
    if terminal.is_terminal:
        with Live(
            get_renderable=lambda: screen(tables_dir, run_filter, height=terminal.height - 1),
            console=terminal,
            refresh_per_second=2,
        ):
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
