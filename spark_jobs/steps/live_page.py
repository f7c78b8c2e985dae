"""The live page as `longtail dashboard` serves it, and who may change runs on it, and download their checkpoints."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from threading import Event

from longtail.conf.arguments import resolve_options
from longtail.conf.base.locations import Location
from longtail.conf.options.live import DashboardOptions
from longtail.conf.options.runs import RunsOptions
from longtail.spark_jobs.steps.run_actions import act
from longtail.spark_jobs.steps.run_checkpoints import checkpoints_of_runs
from longtail.spark_jobs.steps.run_images import images_of_runs
from longtail.spark_jobs.steps.run_logs import logs_of_runs
from longtail.streaming.dashboard.actions import Act
from longtail.streaming.dashboard.checkpoint_page import CheckpointFile
from longtail.streaming.dashboard.report_page import Reports
from longtail.streaming.dashboard.server import address, dashboard_page, is_private, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.runs.own_directories import PAGE_TABLES_DIRECTORY
from longtail.streaming.tables.manifest import TABLES_DIRECTORY


@contextmanager
def served_page(
    options: DashboardOptions, tables: TableReader, directory: Location, listening: socket, *, reports: Reports
) -> Iterator[Event]:
    """Serve the page during the block; the event is set when the server ends.

    directory: that of the tables, of which they may be a copy
    """
    private = is_private(listening)
    act, runs_dir = page_actions(options, directory, is_private=private), _runs_dir(options, directory)
    checkpoint = page_checkpoints(options, runs_dir, is_private=private)
    page = dashboard_page(
        tables.read, tables.version, host=options.host, notes=tables.notes, act=act, images=images_of_runs(runs_dir),
        log=logs_of_runs(runs_dir), reports=reports, checkpoint=checkpoint,
    )  # fmt: skip
    with serving(page, listening) as ended:
        print(f"dashboard: {address(listening)} (Ctrl-C ends it)", flush=True)
        if not private:
            print(f"--host {options.host}: {access_line(act, checkpoint)}", file=sys.stderr, flush=True)
        yield ended


def page_actions(options: DashboardOptions, tables_dir: Location, *, is_private: bool) -> Act | None:
    """What the page does when it is asked to change a run; None where it changes nothing.

    tables_dir: the tables that it shows
    is_private: whether only this machine reaches the page
    """
    if not _is_allowed(options.changes_by, is_private=is_private):
        return None
    if _runs_dir(options, tables_dir) is None:
        return None
    elsewhere = {"tables_dir": tables_dir} if isinstance(tables_dir, Path) and not _beside(options, tables_dir) else {}

    def change(action: str, run: str, value: str | None) -> None:
        values = {"action": action, "run": run, "value": value, "runs_dir": options.runs_dir}
        act(resolve_options(RunsOptions, {**values, **elsewhere}))

    return change


def page_checkpoints(
    options: DashboardOptions, runs_dir: Location | None, *, is_private: bool
) -> Callable[[str, str], CheckpointFile] | None:
    """What opens the checkpoints of the runs; None where the page gives none away.

    runs_dir: where they are; None if nobody has said
    is_private: whether only this machine reaches the page
    """
    if runs_dir is None or not _is_allowed(options.downloads_by, is_private=is_private):
        return None
    return checkpoints_of_runs(runs_dir)


def _is_allowed(who: str, *, is_private: bool) -> bool:
    return who == "everybody" or (who == "this_machine" and is_private)


def _runs_dir(options: DashboardOptions, tables_dir: Location) -> Location | None:
    """Where the runs of the tables are; None if nobody has said."""
    is_known = options.tables_dir is None or _beside(options, tables_dir) or "runs_dir" in options.model_fields_set
    return options.runs_dir if is_known else None


def _beside(options: DashboardOptions, tables_dir: Location) -> bool:
    """Whether the tables are in the directory of the runs."""
    return tables_dir in (options.runs_dir / TABLES_DIRECTORY, options.runs_dir / PAGE_TABLES_DIRECTORY)


def access_line(actions: Act | None, checkpoint: Callable[[str, str], CheckpointFile] | None) -> str:
    """What everybody may do who reaches a page that is not for this machine alone."""
    rights = ["read the page"]
    rights += ["download checkpoints"] if checkpoint else []
    rights += ["rename, hide and delete runs on it"] if actions else []
    mend = "" if actions else "; --changes_by everybody lets them change runs, too"
    return f"everybody who reaches this machine can {', and '.join(rights)}; it asks for no password{mend}"
