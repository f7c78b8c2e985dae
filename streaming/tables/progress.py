"""How far the live query is with the event files that waited for it, for whoever shows the tables. No Spark.

TABLES_DIR/progress.json
"""

import json
from contextlib import suppress
from pathlib import Path

from longtail.conf.base.files import write_json_atomically

FEW_FILES = 100
"""So many are read in a moment, and nothing is said."""
_FILE = "progress.json"


def write_progress(tables_dir: Path, num_read: int, num_files: int) -> None:
    """Note how many of the waiting event files are read."""
    write_json_atomically(tables_dir / _FILE, {"read": num_read, "files": num_files})


def end_progress(tables_dir: Path) -> None:
    """Note that none waits any more."""
    (tables_dir / _FILE).unlink(missing_ok=True)


def read_progress(tables_dir: Path) -> str | None:
    """How far it is, as a line; None if no event files wait, or only few."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        content = json.loads((tables_dir / _FILE).read_text(encoding="utf-8"))
        return f"read {int(content['read']):,} of {int(content['files']):,} event files"
    return None
