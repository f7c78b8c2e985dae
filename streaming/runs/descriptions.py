"""What a user says of a run: a display name, tags, a note, and whether it is hidden. No part of the run's identity.

    RUNS_DIR/descriptions/RUN.json

The job that keeps live tables copies the descriptions of all runs into one file beside the tables, so that pages and
notebooks need the tables alone (streaming/tables/descriptions.py).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import overload

from pydantic import TypeAdapter, ValidationError

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_json_atomically
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.locations import Location
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.runs.own_directories import DESCRIPTIONS_DIRECTORY
from longtail.streaming.tables.descriptions import DESCRIPTIONS_FORMAT_VERSION, RunDescription

_DESCRIPTION = TypeAdapter(RunDescription)


@overload
def description_file(runs_dir: Path, run: str) -> Path: ...
@overload
def description_file(runs_dir: Location, run: str) -> Location: ...
def description_file(runs_dir: Location, run: str) -> Location:
    """The file of a run's description. Raises ValueError for an invalid name: no name leads out of the directory."""
    if not RUN_NAME.fullmatch(run):
        raise ValueError(f"{run!r} is not a valid name of a run")
    return runs_dir / DESCRIPTIONS_DIRECTORY / f"{run}.json"


def read_description(runs_dir: Location, run: str) -> RunDescription:
    """The description of a run; the empty one if there is none. Raises UserError if the file is damaged."""
    file = description_file(runs_dir, run)
    try:
        content = json.loads(read_regular_text(file))
    except FileNotFoundError:
        return RunDescription()
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, error) from None
    version = content.pop("format_version", None) if isinstance(content, dict) else None
    check_format_version(version, newest=DESCRIPTIONS_FORMAT_VERSION, file=file, remedy=f"delete {file}")
    try:
        return _DESCRIPTION.validate_python(content)
    except ValidationError as error:
        raise _damaged(file, error) from None


def write_description(runs_dir: Location, run: str, description: RunDescription) -> None:
    """Replace the description of a run; an empty one has no file."""
    file = description_file(runs_dir, run)
    if description == RunDescription():
        file.unlink(missing_ok=True)
        return
    write_json_atomically(file, {"format_version": DESCRIPTIONS_FORMAT_VERSION, **vars(description)})


def add_tag(runs_dir: Location, run: str, tag: str) -> None:
    """Give a run a tag beside those that it has. Raises UserError if its description is damaged."""
    before = read_description(runs_dir, run)
    if tag not in before.tags:
        write_description(runs_dir, run, replace(before, tags=(*before.tags, tag)))


def described_runs(runs_dir: Location) -> list[str]:
    """Sorted names of the runs that have a description."""
    directory = runs_dir / DESCRIPTIONS_DIRECTORY
    names = [file.stem for file in directory.glob("*.json")] if directory.is_dir() else []
    return sorted(name for name in names if RUN_NAME.fullmatch(name))


def read_descriptions(runs_dir: Location) -> dict[str, RunDescription]:
    """The descriptions of all runs, by run; of a damaged file, the empty one."""
    found = {}
    for run in described_runs(runs_dir):
        try:
            found[run] = read_description(runs_dir, run)
        except UserError:
            found[run] = RunDescription()
    return found


def _damaged(file: Location, error: Exception) -> UserError:
    return UserError(f"{file} is damaged ({' '.join(str(error).split())[:200]}): delete it, and describe the run again")
