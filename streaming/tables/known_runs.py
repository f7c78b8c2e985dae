"""The runs that the result tables have had, so that one whose files were removed by hand is noticed. No Spark.

    TABLES_DIR/known_runs.json

Only for the holder of the tables' lock.
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from longtail.conf.base.files import write_json_atomically
from longtail.streaming.tables.manifest import list_runs

_FILE = "known_runs.json"


def read_known_runs(tables_dir: Path) -> set[str]:
    """The names; none if the file is not there or damaged."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        names = json.loads((tables_dir / _FILE).read_text(encoding="utf-8"))
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    return set()


def write_known_runs(tables_dir: Path, runs: Iterable[str]) -> None:
    """Replace the names."""
    write_json_atomically(tables_dir / _FILE, sorted(runs))


def note_changed_runs(tables_dir: Path, changed: Iterable[str]) -> None:
    """Of runs that users deleted or restored, the tables have those that are there; without the file, no effect."""
    if (tables_dir / _FILE).exists():
        known = read_known_runs(tables_dir)
        now = known - {*changed} | {*changed} & {*list_runs(tables_dir)}
        if now != known:
            write_known_runs(tables_dir, now)
