"""Which files of an events directory are event files, which are archives of them, and which run they belong to.

    events/NAME.jsonl, events/NAME.parquet       written by trainings (streaming/events/writer.py) and by anyone else
    events/archive/RUN@NUMBER-ID.parquet         files of a run in one (streaming/archive.py)
    events/archive/@NUMBER-ID.parquet            files of other programs, which may hold events of many runs

Names are relative to the directory of events.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.events.schema import FAILED, FINISHED, RUN_NAME, STARTED

ARCHIVE_DIRECTORY = "archive"
LINES, COLUMNS = ".jsonl", ".parquet"
"""Extensions of event files of JSON lines and of columns (streaming/events/columns.py)."""
ARCHIVE_OF = "@"
"""Ends the run's name in the name of an archive: no run's name has it."""

_FILE = re.compile(
    rf"({RUN_NAME.pattern})"
    rf"(?:-attempt[0-9]+-(?:epoch[0-9]+(?:-step[0-9]+)?|[a-z]+)|-pseudo_labels-round[0-9]+-[0-9a-f]+"
    rf"|-predictions-[0-9a-f]+"
    rf"|{ARCHIVE_OF}[0-9]+-[0-9a-f]+)\.[a-z]+"
)
"""The states of runs are words; a later Longtail may have further ones, and other formats."""
assert all(_FILE.fullmatch(f"run-attempt001-{state}.jsonl") for state in (STARTED, FAILED, FINISHED))


def is_event_file(name: str) -> bool:
    """Whether a file is read; the names of those that are being written begin with a dot."""
    return name.endswith((LINES, COLUMNS)) and not name.startswith(".")


def file_names(events_dir: Location) -> list[str]:
    """Names of the event files that are not archived, in no order."""
    return [name for name in listed(events_dir) if is_event_file(name)]


def archive_names(events_dir: Location) -> list[str]:
    """Names of the archives, in no order."""
    return [f"{ARCHIVE_DIRECTORY}/{name}" for name in listed(events_dir / ARCHIVE_DIRECTORY) if is_event_file(name)]


def is_archive(name: str) -> bool:
    """Whether a name is that of an archive."""
    return name.startswith(f"{ARCHIVE_DIRECTORY}/")


def run_of_event_file(name: str) -> str | None:
    """The run that an event file or archive belongs to; None for files of other programs, which may hold many runs."""
    found = _FILE.fullmatch(name.removeprefix(f"{ARCHIVE_DIRECTORY}/"))
    return found and found[1]


def event_files_by_run(events_dir: Location) -> dict[str, list[Location]]:
    """The event files of each run in the directory, sorted by name, and its archives."""
    found: dict[str, list[Location]] = {}
    for name in sorted([*listed(events_dir), *archive_names(events_dir)]):
        if run := run_of_event_file(name):
            found.setdefault(run, []).append(events_dir / name)
    return found


def event_files_of(events_dir: Location, run: str) -> list[Location]:
    """The event files of a run, sorted by name, and its archives."""
    return event_files_by_run(events_dir).get(run, [])


def files_of_many_runs(events_dir: Location) -> list[Location]:
    """The event files that other programs have written, and the archives of such files."""
    names = sorted([*file_names(events_dir), *archive_names(events_dir)])
    return [events_dir / name for name in names if not run_of_event_file(name)]


def newest_runs_first(events_dir: Location, names: Sequence[str]) -> list[str]:
    """The names by run, the one whose files changed last first; in a store, where a date costs a request, by name."""
    changed_at: dict[str | None, float] = {}
    if isinstance(events_dir, Path):
        for name in names:
            with suppress(OSError):  # it has gone
                run = run_of_event_file(name)
                changed_at[run] = max(os.stat(events_dir / name).st_mtime, changed_at.get(run, 0.0))

    def order(name: str) -> tuple[float, str, str]:
        run = run_of_event_file(name)
        return -changed_at.get(run, 0.0), run or "", name

    return sorted(names, key=order)


def name_in(events_dir: Location, file: Location) -> str:
    """The name of an event file or archive in its directory."""
    return str(file).removeprefix(str(events_dir)).lstrip("/")


def shown_name(name: str) -> str:
    """A name as text, whatever bytes it has."""
    return name.encode("utf-8", "replace").decode()


def listed(directory: Location) -> list[str]:
    """Names of all that is in a directory, in no order; none if it is missing."""
    try:
        if isinstance(directory, StorePath):
            return [entry.name for entry in directory.iterdir()]
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
