"""All runs of a runs directory: what there is of each, by directory, events, tables and trash."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.suggestions import did_you_mean
from longtail.streaming.events.files import event_files_by_run, listed
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.runs.descriptions import described_runs, read_description
from longtail.streaming.runs.trash import TrashEntry, trash_entries
from longtail.streaming.tables.descriptions import RunDescription
from longtail.streaming.tables.liveness import RESULT_FILE
from longtail.streaming.tables.manifest import DamagedTables, list_runs
from longtail.streaming.tables.reading import read_result_table

OPTIONS_FILE = "options.json"
"""In the directory of each run: its options. A directory without it is none of a run."""


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run, and where there is something of it.

    state: its row of `runs` in the first tables that have it, None if none has
    parts: for example directory, events, analytics
    deleted: its entry in the trash, None if it is not deleted
    """

    run: str
    description: RunDescription
    state: dict[str, Any] | None
    parts: tuple[str, ...]
    deleted: TrashEntry | None = None


def listed_runs(runs_dir: Location, tables_dirs: Sequence[Path]) -> list[ListedRun]:
    """All runs by name, then the deleted ones that can be restored."""
    present = [
        ListedRun(
            run=run,
            description=read_description(runs_dir, run),
            state=run_state(tables_dirs, run) or _state_of_directory(runs_dir, run),
            parts=tuple(found),
        )
        for run, found in sorted(_parts_by_run(runs_dir, tables_dirs).items())
    ]
    deleted = [
        ListedRun(run=entry.run, description=RunDescription(), state=None, parts=("trash",), deleted=entry)
        for entry in trash_entries(runs_dir)
        if entry.is_kept
    ]
    return [*present, *deleted]


def matching_runs(runs_dir: Location, tables_dirs: Sequence[Path], pattern: str) -> list[str]:
    """The names of the runs that are not deleted and match; raises UserError if there are none."""
    names = sorted(_parts_by_run(runs_dir, tables_dirs))
    if matching := [name for name in names if fnmatchcase(name, pattern)]:
        return matching
    hint = did_you_mean(pattern, names) or f"; `longtail runs list --runs_dir {runs_dir}` lists them"
    raise UserError(f"{runs_dir} has no run {pattern}{hint}")


def _parts_by_run(runs_dir: Location, tables_dirs: Sequence[Path]) -> dict[str, list[str]]:
    """Where there is something of each run that is not deleted."""
    parts: dict[str, list[str]] = {}
    for part, runs in {
        "directory": _run_directories(runs_dir),
        "events": event_files_by_run(runs_dir / EVENTS_DIRECTORY),
        **{tables.name: list_runs(tables) for tables in tables_dirs},
    }.items():
        for run in runs:
            parts.setdefault(run, []).append(part)
    for run in described_runs(runs_dir):
        parts.setdefault(run, [])
    return parts


def run_state(tables_dirs: Sequence[Path], run: str) -> dict[str, Any] | None:
    """The row of `runs` of a run, in the first tables that have it."""
    for tables_dir in tables_dirs:
        with contextlib.suppress(DamagedTables):
            if rows := read_result_table(tables_dir, "runs", run).to_pylist():
                return rows[0]
    return None


def _state_of_directory(runs_dir: Location, run: str) -> dict[str, Any] | None:
    return None if read_run_result(runs_dir, run) is None else {"status": "finished"}


def read_run_result(runs_dir: Location, run: str) -> dict[str, Any] | None:
    """The content of a run's result.json; None if it is not finished, or the file is damaged."""
    try:
        content = json.loads((runs_dir / run / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _run_directories(runs_dir: Location) -> list[str]:
    names = (name for name in listed(runs_dir) if RUN_NAME.fullmatch(name))
    return [name for name in names if (runs_dir / name / OPTIONS_FILE).is_file()]
