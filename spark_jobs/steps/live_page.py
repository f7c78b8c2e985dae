"""The live page as `longtail dashboard` serves it, and whether runs can be changed on it: by `longtail runs`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from threading import Event

from longtail.conf.arguments import resolve_options
from longtail.conf.base.locations import Location
from longtail.conf.options.live import DashboardOptions
from longtail.conf.options.runs import RunsOptions
from longtail.spark_jobs.steps.run_actions import act
from longtail.spark_jobs.steps.run_images import images_of_runs
from longtail.spark_jobs.steps.run_logs import logs_of_runs
from longtail.streaming.dashboard.actions import Act
from longtail.streaming.dashboard.report_page import Reports
from longtail.streaming.dashboard.server import address, dashboard_page, is_private, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY
from longtail.streaming.tables.manifest import TABLES_DIRECTORY


@contextmanager
def served_page(
    options: DashboardOptions, tables: TableReader, place: Location, listening: socket, *, reports: Reports
) -> Iterator[Event]:
    """Serve the page during the block; the event is set when the server ends.

    place: the directory of the tables, of which they may be a copy
    """
    act = page_actions(options, place, is_private=is_private(listening))
    runs_dir = _runs_dir(options, place)
    page = dashboard_page(
        tables.read, tables.version, host=options.host, notes=tables.notes, act=act, images=images_of_runs(runs_dir),
        log=logs_of_runs(runs_dir), reports=reports,
    )  # fmt: skip
    with serving(page, listening) as ended:
        print(f"dashboard: {address(listening)} (Ctrl-C ends it)", flush=True)
        if not is_private(listening):
            print(f"--host {options.host}: {access_line(act)}", file=sys.stderr, flush=True)
        yield ended


def page_actions(options: DashboardOptions, tables_dir: Location, *, is_private: bool) -> Act | None:
    """What the page does when it is asked to change a run; None where it changes nothing.

    tables_dir: the tables that it shows
    is_private: whether only this machine reaches the page
    """
    if options.changes_by == "nobody" or (options.changes_by == "this_machine" and not is_private):
        return None
    if _runs_dir(options, tables_dir) is None:
        return None
    elsewhere = {"tables_dir": tables_dir} if isinstance(tables_dir, Path) and not _beside(options, tables_dir) else {}

    def change(action: str, run: str, value: str | None) -> None:
        values = {"action": action, "run": run, "value": value, "runs_dir": options.runs_dir}
        act(resolve_options(RunsOptions, {**values, **elsewhere}))

    return change


def _runs_dir(options: DashboardOptions, tables_dir: Location) -> Location | None:
    """Where the runs of the tables are; None if nobody has said."""
    is_known = options.tables_dir is None or _beside(options, tables_dir) or "runs_dir" in options.model_fields_set
    return options.runs_dir if is_known else None


def _beside(options: DashboardOptions, tables_dir: Location) -> bool:
    """Whether the tables are in the directory of the runs."""
    return tables_dir in (options.runs_dir / TABLES_DIRECTORY, options.runs_dir / PAGE_TABLES_DIRECTORY)


def access_line(actions: Act | None) -> str:
    """What everybody may do who reaches a page that is not for this machine alone."""
    may = "read the page" if actions is None else "read the page, and rename, hide and delete runs on it"
    mend = "; --changes_by everybody lets them change runs, too" if actions is None else ""
    return f"everybody who reaches this machine can {may}; it asks for no password{mend}"
