"""Makes a directory of live tables follow what users do with runs: deleted ones disappear, restored ones return.

    TABLES_DIR/trash/RUN@20261128T154000-1a2b3c4d/     the tables of a deleted run, until it is restored or purged

Only for the holder of the tables' lock: the job that keeps them, or `longtail runs` if there is none.
"""

import os
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.streaming.runs.descriptions import read_descriptions
from longtail.streaming.runs.own_directories import TRASH_DIRECTORY
from longtail.streaming.runs.trash import TrashEntry, remove, trash_entries
from longtail.streaming.tables.deletions import write_deletion_times
from longtail.streaming.tables.descriptions import write_table_descriptions
from longtail.streaming.tables.known_runs import note_changed_runs
from longtail.streaming.tables.manifest import MANIFEST, read_run_manifest, run_directory


def follow_runs(runs_dir: Location, tables_dir: Path) -> list[str]:
    """Bring tables up to date with the trash and the descriptions of a runs directory; the runs that changed."""
    entries = trash_entries(runs_dir)
    changed = [entry.run for entry in entries if _follow(tables_dir, entry)]
    note_changed_runs(tables_dir, changed)
    _remove_without_entry(tables_dir, {entry.name for entry in entries})
    write_table_descriptions(tables_dir, read_descriptions(runs_dir))
    write_deletion_times(tables_dir, deletion_times(entries))
    return list(dict.fromkeys(changed))


def deletion_times(entries: list[TrashEntry]) -> dict[str, float]:
    """By run, the time of its last deletion that is in force: events until then do not count."""
    times: dict[str, float] = {}
    for entry in entries:
        if entry.hides_events:
            times[entry.run] = max(entry.deleted_at, times.get(entry.run, 0.0))
    return times


def last_event_time(tables_dir: Path, run: str) -> float | None:
    """When the last event of a run was emitted, by its tables; None if they do not say."""
    try:
        manifest = read_run_manifest(tables_dir, run)
    except UserError:
        return None
    rows = manifest.rows.get("runs", []) if manifest else []
    return max((row["updated_at"] for row in rows), default=None)


def _follow(tables_dir: Path, entry: TrashEntry) -> bool:
    """Whether the tables of the run changed."""
    kept, shown = tables_dir / TRASH_DIRECTORY / entry.name, run_directory(tables_dir, entry.run)
    if entry.state == "restored":
        if not kept.is_dir():
            return False
        is_free = not (shown / MANIFEST).exists()
        if is_free:
            remove(shown)
            shown.parent.mkdir(parents=True, exist_ok=True)  # a copy of a store has no empty directory
            os.rename(kept, shown)
        else:
            remove(kept)
        return is_free
    if entry.state == "purged" and os.path.lexists(kept):
        remove(kept)
    if not (shown / MANIFEST).exists() or (last_event_time(tables_dir, entry.run) or 0.0) > entry.deleted_at:
        return False  # not there, or a new run of this name
    if entry.state == "purged" or os.path.lexists(kept):
        # First the manifest: without it, readers do not see the run.
        (shown / MANIFEST).unlink(missing_ok=True)
        remove(shown)
    else:
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.rename(shown, kept)
    return True


def _remove_without_entry(tables_dir: Path, names: set[str]) -> None:
    """Remove what is kept of deletions that the runs directory has forgotten."""
    trash = tables_dir / TRASH_DIRECTORY
    for name in os.listdir(trash) if trash.is_dir() and not trash.is_symlink() else ():
        if name not in names:
            remove(trash / name)
