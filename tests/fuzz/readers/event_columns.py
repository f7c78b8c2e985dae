"""Files of events as columns, and archives of them: damaged bytes, and whole files of other columns and types."""

import io
import json
from contextlib import suppress
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.archives import (
    MEMBERS,
    UNREADABLE,
    archived_names,
    archived_progress,
    archived_sources,
)
from longtail.streaming.events.columns import write_event_columns
from longtail.streaming.parsing.columns import ARCHIVE_COLUMNS
from tests.events import PLAIN
from tests.fuzz.mutation import changed_json, damaged

_RUN = "base"
_FILE, _ARCHIVE = f"{_RUN}-attempt001-epoch00001.parquet", f"archive/{_RUN}@1-1a2b3c4d.parquet"
_COLUMNS = [
    pa.array(["step", None, "\0"]), pa.array([2**62, -1, 0]), pa.array([[1], [], None]), pa.array([None] * 3),
    pa.array([0.5, float("nan"), float("inf")]), pa.array([b"\xff", b"{", b"[" * 5000]), pa.array([True, False, None]),
    pa.array([{"a": 1}] * 3), pa.array(["base"] * 3).dictionary_encode(), pa.array(["9" * 30, "class", "run"]),
]  # fmt: skip


def _events(directory: Path) -> bytes:
    file = directory / "events.parquet"
    write_event_columns(file, list(PLAIN.values()))
    return file.read_bytes()


def _rows(random: Random) -> bytes:
    """Three rows of an archive, of which some columns are others."""
    names = random.sample(ARCHIVE_COLUMNS.names, random.randrange(1, len(ARCHIVE_COLUMNS)))
    columns = {
        name: random.choice(_COLUMNS) if random.random() < 0.2 else pa.nulls(3, ARCHIVE_COLUMNS.field(name).type)
        for name in {*names, "kind", "attempt", "state", "epoch", "source", "line"}
        if random.random() < 0.95
    }
    table = pa.table(columns or {"kind": pa.nulls(3)})
    if random.random() < 0.8:
        table = table.replace_schema_metadata({MEMBERS: changed_json([_FILE, "x"], random)})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def generate(random: Random) -> bytes:
    if random.random() < 0.4:
        return _rows(random)
    events = PLAIN.values()
    columns = {name: [getattr(event, name, None) for event in events] for name in ("kind", "run", "attempt", "epoch")}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression=random.choice(("none", "zstd")))
    return damaged(file.getvalue(), random)


def read(content: bytes, directory: Path) -> None:
    events_dir = directory / "events"
    (events_dir / "archive").mkdir(parents=True, exist_ok=True)
    for name in (_FILE, _ARCHIVE):
        (events_dir / name).write_bytes(content)
        for piece in read_event_files(events_dir, [name]):
            piece.as_lines()
    with suppress(*UNREADABLE):
        assert {*archived_names(events_dir / _ARCHIVE)} >= set()
    with suppress(*UNREADABLE):
        assert {*archived_sources(events_dir / _ARCHIVE)} >= set()
    for row in archived_progress(events_dir, _RUN):
        json.dumps(row)
        assert row["attempt"] >= row["attempt"]
