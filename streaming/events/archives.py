"""What archives of event files say about themselves, read without their events. No Spark."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.files import open_regular_file, read_regular_file
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import check_memory, check_texts
from longtail.streaming.events.files import archive_names, run_of_event_file
from longtail.streaming.events.schema import StepEvent

MEMBERS = b"longtail_event_files"
"""Key in the metadata of an archive's Parquet file: the names of the files that went into it, as a JSON list."""
SUMMARY = b"longtail_run"
"""Key in the same metadata: the run's rows of some result tables (streaming/tables/waiting_runs.py), as a JSON object.
Only archives that had all events of their run when they were written have it."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, RecursionError)
"""What reading a damaged archive raises."""
MAX_ROWS = 4_000_000
"""Of a file with events as columns: a small file can say that it is a very large table."""
PROGRESS_COLUMNS = pa.schema(
    [("kind", pa.string()), ("attempt", pa.int64()), ("state", pa.string()), ("epoch", pa.int64())]
)
"""What every archive has, for those who only want to know how far a run is."""
_SOURCE = pa.schema([("source", pa.string())])


def archived_names(file: Location) -> list[str]:
    """The names of the event files, and of the older archives, that went into an archive; one of UNREADABLE if it is
    damaged."""
    names = json.loads((pq.read_schema(_opened(_content(file))).metadata or {})[MEMBERS])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file} does not say which event files went into it")
    return names


def archived_summary(file: Location) -> object:
    """What an archive says of its run, not checked yet; None if nothing. Raises as archived_names does."""
    return json.loads((pq.read_schema(_opened(_content(file))).metadata or {}).get(SUMMARY, b"null"))


def archived_sources(file: Location) -> list[str]:
    """The event files whose rows an archive has, by the names that the tables show. Raises as archived_names does."""
    return _columns(file, _SOURCE)["source"].unique().to_pylist()


def archive_rows(file: Location) -> int:
    """How many rows an archive says to have. Raises as archived_names does."""
    return pq.read_metadata(_opened(_content(file))).num_rows


def _columns(file: Location, schema: pa.Schema) -> pa.Table:
    """Columns of an archive, of these types. Raises one of UNREADABLE: archives may come from anybody."""
    content = _content(file)
    texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
    found = pq.ParquetFile(_opened(content), read_dictionary=texts)
    if found.metadata.num_rows > MAX_ROWS:
        raise ValueError(f"{file} has {found.metadata.num_rows} rows")
    check_memory(found, schema.names, file=content, as_dictionaries=True)
    table = found.read(columns=schema.names).select(schema.names)
    check_texts(table[name] for name in texts)
    return table.cast(schema)


def _content(file: Location) -> Path | pa.Buffer:
    """A regular file, or what a file in a store has."""
    if not isinstance(file, Path):
        return pa.py_buffer(read_regular_file(file))
    open_regular_file(file).close()
    return file


def _opened(content: Path | pa.Buffer) -> Path | pa.BufferReader:
    return content if isinstance(content, Path) else pa.BufferReader(content)


def archived_progress(events_dir: Location, run: str) -> list[dict[str, Any]]:
    """What the archives of a run say of its progress, each once: attempt, epoch, and state (null if no run event)."""
    found: list[dict[str, Any]] = []
    for name in archive_names(events_dir):
        if run_of_event_file(name) != run:
            continue
        with suppress(*UNREADABLE):
            table = _columns(events_dir / name, PROGRESS_COLUMNS)
            # The epoch of a step may not be finished.
            table = table.filter(pc.and_(pc.is_valid(table["attempt"]), pc.not_equal(table["kind"], StepEvent.kind)))
            found += table.group_by(["attempt", "state", "epoch"]).aggregate([]).to_pylist()
    return found
