"""What archives of event files say about themselves, read without their events. No Spark."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.streaming.events.files import archive_names, run_of_event_file
from longtail.streaming.events.schema import StepEvent

MEMBERS = b"longtail_event_files"
"""Key in the metadata of an archive's Parquet file: the names of the files that went into it, as a JSON list."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What reading a damaged archive raises."""


def archived_names(file: Path) -> list[str]:
    """The names of the event files, and of the older archives, that went into an archive; one of UNREADABLE if it is
    damaged."""
    return json.loads(pq.read_schema(file).metadata[MEMBERS])


def archived_sources(file: Path) -> list[str]:
    """The event files whose rows an archive has, by the names that the tables show. Raises as archived_names does."""
    return pq.read_table(file, columns=["source"])["source"].unique().to_pylist()


def archived_progress(events_dir: Path, run: str) -> list[dict[str, Any]]:
    """What the archives of a run say of its progress, each once: attempt, epoch, and state (null if no run event)."""
    found: list[dict[str, Any]] = []
    for name in archive_names(events_dir):
        if run_of_event_file(name) != run:
            continue
        with suppress(*UNREADABLE):
            table = pq.read_table(events_dir / name, columns=["kind", "attempt", "state", "epoch"])
            # The epoch of a step may not be finished.
            table = table.filter(pc.and_(pc.is_valid(table["attempt"]), pc.not_equal(table["kind"], StepEvent.kind)))
            found += table.group_by(["attempt", "state", "epoch"]).aggregate([]).to_pylist()
    return found
