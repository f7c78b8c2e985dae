"""When runs were deleted, beside the result tables: a new run may have the name of a deleted one. No Spark.

    TABLES_DIR/deletions.json      not there if no deletion is in force

The job that keeps the tables copies this from the trash of the runs directory (streaming/runs/following.py). What is
known of a run from before its deletion, other than its tables, is not shown for a new run of its name.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from longtail.conf.base.files import write_json_atomically

_FILE = "deletions.json"
_FORMAT_VERSION = 1
_TIMES = TypeAdapter(dict[str, float])


def read_deletion_times(tables_dir: Path) -> dict[str, float]:
    """By run, the time of its last deletion that is in force, in seconds since 1970-01-01 UTC; a damaged file has
    none."""
    with suppress(OSError, ValueError, RecursionError):  # pydantic's errors are ValueErrors, too
        content = json.loads((tables_dir / _FILE).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format_version") == _FORMAT_VERSION:
            return _TIMES.validate_python(content.get("deleted_at"))
    return {}


def write_deletion_times(tables_dir: Path, times: Mapping[str, float]) -> None:
    """Replace the times, if they differ."""
    if not times:
        (tables_dir / _FILE).unlink(missing_ok=True)
    elif read_deletion_times(tables_dir) != times:
        write_json_atomically(tables_dir / _FILE, {"format_version": _FORMAT_VERSION, "deleted_at": dict(times)})


def is_of_present_run(runs: pa.ChunkedArray, times: pa.ChunkedArray, deleted_at: Mapping[str, float]) -> pa.Array:
    """Which of these names of runs at these times are not those of a run that was deleted later."""
    deleted = pc.index_in(runs, pa.array(deleted_at, pa.string()))
    after = pc.greater(times, pc.take(pa.array(deleted_at.values(), pa.float64()), deleted))
    return pc.fill_null(after, True)
