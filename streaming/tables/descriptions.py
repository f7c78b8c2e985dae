"""The descriptions of the runs beside their tables, for everybody who shows them: TABLES_DIR/descriptions.json."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from longtail.conf.base.files import write_json_atomically

DESCRIPTIONS_FILE = "descriptions.json"
DESCRIPTIONS_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What a user says of a run.

    display_name: shown in the place of the run's name; empty for none
    hidden: displays leave the run out
    """

    display_name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    hidden: bool = False


_ALL = TypeAdapter(dict[str, RunDescription])


def read_table_descriptions(tables_dir: Path) -> dict[str, RunDescription]:
    """The descriptions by run; empty if there are none, or the file is damaged: it is a copy, and written again."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads((tables_dir / DESCRIPTIONS_FILE).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format_version") == DESCRIPTIONS_FORMAT_VERSION:
            return _ALL.validate_python(content.get("runs"))
    return {}


def write_table_descriptions(tables_dir: Path, descriptions: Mapping[str, RunDescription]) -> None:
    """Replace the copy of the descriptions, if it differs."""
    if read_table_descriptions(tables_dir) != dict(descriptions):
        runs = {run: vars(description) for run, description in descriptions.items()}
        write_json_atomically(
            tables_dir / DESCRIPTIONS_FILE, {"format_version": DESCRIPTIONS_FORMAT_VERSION, "runs": runs}
        )


def descriptions_state(tables_dir: Path) -> int | None:
    """A value that changes whenever the copy of the descriptions does; None if there is none."""
    with contextlib.suppress(OSError):
        return (tables_dir / DESCRIPTIONS_FILE).stat().st_mtime_ns
    return None
