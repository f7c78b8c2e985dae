"""The trash of a runs directory: deleted runs, from which they can be restored.

    RUNS_DIR/trash/RUN@20261128T154000-1a2b3c4d/entry.json     which run, when it was deleted, and until when it is kept
    RUNS_DIR/trash/RUN@20261128T154000-1a2b3c4d/run/           its directory
    RUNS_DIR/trash/RUN@20261128T154000-1a2b3c4d/events/        its event files
    RUNS_DIR/trash/RUN@20261128T154000-1a2b3c4d/description.json

Whoever keeps tables of the runs follows the trash (streaming/runs/following.py). The events of a deleted run may still
be in files of many runs, in a Kafka topic, or on their way: those that were emitted until the deletion count no more,
while a new training of the same name is a new run. An entry therefore outlives its content.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

from pydantic import TypeAdapter

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_json_atomically
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.events.files import event_files_of, listed, name_in
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.runs.descriptions import description_file
from longtail.streaming.runs.own_directories import TRASH_DIRECTORY, is_own_directory

ENTRY_FILE = "entry.json"
TRASH_FORMAT_VERSION = 1
DAY_SECONDS = 86_400.0

State = Literal["deleting", "deleted", "restoring", "restored", "purged"]


@dataclass(frozen=True, kw_only=True)
class TrashEntry:
    """One deletion of a run.

    deleted_at: events that were emitted until then count no more, in seconds since 1970-01-01 UTC
    expires_at: when what is kept is removed for good
    state: deleting and restoring while things are moved, or if that was interrupted: then the same command goes on;
        purged entries are empty, restored ones have no effect
    """

    name: str
    run: str
    deleted_at: float
    expires_at: float
    state: State = "deleted"

    @property
    def hides_events(self) -> bool:
        """Whether events of the run until deleted_at do not count."""
        return self.state != "restored"

    @property
    def is_kept(self) -> bool:
        """Whether the entry has what can be restored."""
        return self.state in ("deleting", "deleted", "restoring")


_ENTRY = TypeAdapter(TrashEntry)


def trash_entries(runs_dir: Location) -> list[TrashEntry]:
    """All entries, the oldest first; damaged ones are left out. Raises UserError if the trash is a link."""
    trash = _trash(runs_dir)
    entries = [entry for name in sorted(listed(trash)) if (entry := _read_entry(trash / name))]
    return sorted(entries, key=lambda entry: (entry.deleted_at, entry.name))


def entry_directory(runs_dir: Location, entry: TrashEntry) -> Location:
    """The directory of an entry."""
    return _trash(runs_dir) / entry.name


@overload
def things_of(runs_dir: Path, run: str) -> Mapping[str, Path]: ...
@overload
def things_of(runs_dir: Location, run: str) -> Mapping[str, Location]: ...
def things_of(runs_dir: Location, run: str) -> Mapping[str, Location]:
    """The paths of a run in a runs directory that exist, by their paths in an entry of the trash."""
    if not RUN_NAME.fullmatch(run):
        raise UserError(f"{run!r} is not a valid name of a run")
    events_dir = runs_dir / EVENTS_DIRECTORY
    paths: dict[str, Location] = {
        **({} if is_own_directory(run) else {"run": runs_dir / run}),
        **{f"{EVENTS_DIRECTORY}/{name_in(events_dir, file)}": file for file in event_files_of(events_dir, run)},
        "description.json": description_file(runs_dir, run),
    }
    return {name: path for name, path in paths.items() if _is_there(path)}


def delete_run(runs_dir: Location, run: str, *, last_event_at: float, keep_days: float) -> TrashEntry:
    """Move a run to the trash; an interrupted deletion goes on, in the same entry.

    last_event_at: of the tables, because the clock of the machine that trained may be ahead
    """
    deleted_at = max(time.time(), last_event_at)
    day = time.strftime("%Y%m%dT%H%M%S", time.gmtime(deleted_at))
    entry = TrashEntry(
        name=f"{run}@{day}-{uuid.uuid4().hex[:8]}",
        run=run,
        deleted_at=deleted_at,
        expires_at=time.time() + keep_days * DAY_SECONDS,
        state="deleting",
    )
    things = things_of(runs_dir, run)
    for other in trash_entries(runs_dir):
        # One that has some of these things already is of another run of this name.
        if other.run == run and other.state == "deleting" and not _has_any(entry_directory(runs_dir, other), things):
            entry = replace(entry, name=other.name)
    # First the entry: if this process is killed now, the run is out of the tables, and can be deleted again.
    _write_entry(runs_dir, entry)
    for name, path in things.items():
        _move(path, entry_directory(runs_dir, entry) / name)
    entry = replace(entry, state="deleted")
    _write_entry(runs_dir, entry)
    return entry


def restorable(runs_dir: Location, run: str) -> TrashEntry:
    """The last deletion of a run. Raises UserError if the trash does not have it."""
    kept = [entry for entry in trash_entries(runs_dir) if entry.run == run and entry.is_kept]
    if not kept:
        raise UserError(f"the trash of {runs_dir} has no run {run}: see `longtail runs list --runs_dir {runs_dir}`")
    return kept[-1]


def restore_run(runs_dir: Location, run: str) -> None:
    """Move a run back from the trash, as it was at its last deletion; an interrupted restoration goes on.

    Raises UserError if the trash does not have it, or if there is another run of this name meanwhile.
    """
    entry = restorable(runs_dir, run)
    directory = entry_directory(runs_dir, entry)
    moves = {thing: path for thing, path in _paths(runs_dir, entry).items() if _is_there(thing)}
    # After an interruption, what is there already is of this run.
    others = things_of(runs_dir, run).values() if entry.state == "deleted" else ()
    if taken := [*others, *filter(_is_there, moves.values())]:
        raise UserError(f"{taken[0]} exists: there is another run of this name, which has to be deleted first")
    _write_entry(runs_dir, replace(entry, state="restoring"))
    for thing, path in moves.items():
        _move(thing, path)
    _write_entry(runs_dir, replace(entry, state="restored"))
    remove(directory / EVENTS_DIRECTORY)


def purge(runs_dir: Location, of: Callable[[TrashEntry], bool]) -> list[TrashEntry]:
    """Remove the content of these entries for good; their new state."""
    purged = []
    for entry in trash_entries(runs_dir):
        if entry.state == "restored" and entry.expires_at < time.time():
            remove(entry_directory(runs_dir, entry))
        if not entry.is_kept or not of(entry):
            continue
        done = replace(entry, state="purged")
        _write_entry(runs_dir, done)
        for name in listed(entry_directory(runs_dir, entry)):
            if name != ENTRY_FILE:
                remove(entry_directory(runs_dir, entry) / name)
        purged.append(done)
    return purged


def forget_purged(runs_dir: Location, run: str) -> None:
    """Remove the empty entries of a run, so that its old events count again."""
    for entry in trash_entries(runs_dir):
        if entry.run == run and entry.state == "purged":
            remove(entry_directory(runs_dir, entry))


def remove(path: Location) -> None:
    """Remove a file, a link or a whole directory, if it is there; what a link leads to stays."""
    if isinstance(path, StorePath):
        path.remove()
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _paths(runs_dir: Location, entry: TrashEntry) -> dict[Location, Location]:
    """Where the things of an entry came from, by where they are."""
    directory, events = entry_directory(runs_dir, entry), runs_dir / EVENTS_DIRECTORY
    kept = directory / EVENTS_DIRECTORY
    return {
        **{file: events / name_in(kept, file) for file in _files_below(kept)},
        directory / "description.json": description_file(runs_dir, entry.run),
        directory / "run": runs_dir / entry.run,
    }


def _files_below(directory: Location) -> list[Location]:
    if isinstance(directory, StorePath):
        return [*directory.files_below()]
    return [file for file in sorted(directory.rglob("*")) if not file.is_dir()]


def _is_there(path: Location) -> bool:
    """A link that leads nowhere is there, too."""
    return path.exists() if isinstance(path, StorePath) else os.path.lexists(path)


def _has_any(directory: Location, names: Iterable[str]) -> bool:
    return any(_is_there(directory / name) for name in names)


def _is_link(path: Location) -> bool:
    return isinstance(path, Path) and path.is_symlink()


def _move(path: Location, target: Location) -> None:
    if isinstance(path, StorePath) and isinstance(target, StorePath):
        path.move(target)
        return
    assert isinstance(path, Path) and isinstance(target, Path), "the trash is where the runs are"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)  # a rename, unless a link leads to another file system


def _trash(runs_dir: Location) -> Location:
    trash = runs_dir / TRASH_DIRECTORY
    if _is_link(trash):
        raise UserError(f"{trash} is a link: remove it, so that deleted runs stay in {runs_dir}")
    return trash


def _write_entry(runs_dir: Location, entry: TrashEntry) -> None:
    values = {name: value for name, value in vars(entry).items() if name != "name"}
    file = entry_directory(runs_dir, entry) / ENTRY_FILE
    write_json_atomically(file, {"format_version": TRASH_FORMAT_VERSION, **values})


def _read_entry(directory: Location) -> TrashEntry | None:
    file = directory / ENTRY_FILE
    if _is_link(directory):
        return None
    try:
        content = finite_json(read_regular_text(file))
        if not isinstance(content, dict):
            return None
        version = content.pop("format_version", None)
        check_format_version(version, newest=TRASH_FORMAT_VERSION, file=file, remedy=f"delete {directory}")
        entry = _ENTRY.validate_python({**content, "name": directory.name})
    except (OSError, ValueError, RecursionError):  # pydantic's errors are ValueErrors, too
        return None
    # The names of an entry become paths.
    return entry if RUN_NAME.fullmatch(entry.run) and directory.name.startswith(f"{entry.run}@") else None
