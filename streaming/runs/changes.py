"""Changes of runs that take effect everywhere at once: the runs directory first, then the tables that nobody keeps now.

Tables that a monitor or dashboard is keeping follow within a second or two: that process holds their lock.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.streaming.runs.following import follow_runs, last_event_time
from longtail.streaming.runs.trash import TrashEntry, delete_run, purge, things_of
from longtail.streaming.tables.lock import lock_tables

AfterChange = Callable[[Path, list[str]], None]
"""Called with a directory of tables, and the runs that changed in it, while its lock is held."""


def follow_all(runs_dir: Location, tables_dirs: Sequence[Path], after: AfterChange) -> list[Path]:
    """Make tables follow the runs directory; those that another process keeps, and which follow by themselves."""
    kept = []
    for tables_dir in tables_dirs:
        try:
            lock = lock_tables(tables_dir)
        except UserError:
            kept.append(tables_dir)
            continue
        with lock:
            if changed := follow_runs(runs_dir, tables_dir):
                after(tables_dir, changed)
    return kept


def delete(runs_dir: Location, tables_dirs: Sequence[Path], run: str, *, keep_days: float) -> TrashEntry:
    """Move a run to the trash of its runs directory."""
    check_inside(runs_dir, run)
    times = [time for tables_dir in tables_dirs if (time := last_event_time(tables_dir, run)) is not None]
    return delete_run(runs_dir, run, last_event_at=max(times, default=0.0), keep_days=keep_days)


def purge_expired(runs_dir: Location) -> list[TrashEntry]:
    """Remove for good what the trash has kept long enough."""
    now = time.time()
    return purge(runs_dir, lambda entry: entry.expires_at < now)


def check_inside(runs_dir: Location, run: str) -> None:
    """Raise UserError if a run's directory is a link: it and what it leads to belong to somebody else."""
    if isinstance(path := runs_dir / run, Path) and path.is_symlink():
        raise UserError(f"{path} is a link to {os.readlink(path)}: remove the link, and handle the run where it is")
    things_of(runs_dir, run)
