"""Which files of an events directory belong to which run, by their names (streaming/events/writer.py gives them)."""

import os
import re
from pathlib import Path

from longtail.streaming.events.schema import FAILED, FINISHED, RUN_NAME, STARTED

_FILE = re.compile(
    rf"({RUN_NAME.pattern})-"
    rf"(?:attempt[0-9]+-(?:epoch[0-9]+(?:-step[0-9]+)?|[a-z]+)|pseudo_labels-round[0-9]+-[0-9a-f]+)\.[a-z]+"
)
"""The states of runs are words; a later Longtail may have further ones, and other formats."""
assert all(_FILE.fullmatch(f"run-attempt001-{state}.jsonl") for state in (STARTED, FAILED, FINISHED))


def run_of_event_file(name: str) -> str | None:
    """The run that a file of events belongs to; None for files of other programs, which may hold many runs."""
    found = _FILE.fullmatch(name)
    return found and found[1]


def event_files_by_run(events_dir: Path) -> dict[str, list[Path]]:
    """The event files of each run in the directory, sorted by name."""
    found: dict[str, list[Path]] = {}
    for name in sorted(os.listdir(events_dir) if events_dir.is_dir() else []):
        if run := run_of_event_file(name):
            found.setdefault(run, []).append(events_dir / name)
    return found


def event_files_of(events_dir: Path, run: str) -> list[Path]:
    """The event files of a run, sorted by name."""
    return event_files_by_run(events_dir).get(run, [])


def files_of_many_runs(events_dir: Path) -> list[Path]:
    """The event files that other programs have written."""
    names = sorted(os.listdir(events_dir) if events_dir.is_dir() else [])
    return [events_dir / name for name in names if name.endswith(".jsonl") and not run_of_event_file(name)]
