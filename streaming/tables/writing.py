"""Writes the result tables as Parquet files. No Spark. Writing the same update again changes nothing."""

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically, write_text_atomically
from longtail.conf.base.locations import Location
from longtail.streaming.tables.manifest import (
    MANIFEST,
    DamagedTables,
    RunManifest,
    read_run_manifest,
    run_directory,
    write_run_manifest,
)
from longtail.streaming.tables.quarantine_files import number_and_version, quarantine_files, versioned_file
from longtail.streaming.tables.schemas import LATEST_EPOCHS, QUARANTINE, TABLES, TABLES_FORMAT_VERSION

LIVENESS = "liveness.json"
QUARANTINE_FILE_LINES = 10_000


def write_run(
    tables_dir: Path,
    manifest: RunManifest,
    segments: Mapping[str, Mapping[str, pa.Table]],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    keep_replaced: bool = False,
) -> RunManifest:
    """Replace segments of a run's tables and its rows of IN_MANIFEST tables in one atomic step; the new manifest.

    segments: by table and segment; one without rows is removed
    keep_replaced: leave the replaced files, so that the old manifest can be written again; remove_unnamed ends that
    """
    directory = run_directory(tables_dir, manifest.run)
    files = {name: dict(by_segment) for name, by_segment in manifest.files.items()}
    for name, by_segment in segments.items():
        for segment, table in by_segment.items():
            if not table.num_rows:
                files.get(name, {}).pop(segment, None)
                continue
            file = f"{name}-{segment}-{uuid.uuid4().hex[:8]}.parquet"
            write_atomically(directory / file, _parquet_writer(table, TABLES[name]))
            files.setdefault(name, {})[segment] = file
    new = RunManifest(
        run=manifest.run,
        segment_epochs=manifest.segment_epochs,
        files=files,
        splits=manifest.splits,
        rows={**manifest.rows, **{name: [dict(row) for row in table] for name, table in rows.items()}},
    )
    write_run_manifest(tables_dir, new)
    if not keep_replaced:
        remove_unnamed(tables_dir, new)
    return new


def remove_unnamed(tables_dir: Path, manifest: RunManifest) -> None:
    """Remove the files of a run that its manifest does not name."""
    named = {file for by_segment in manifest.files.values() for file in by_segment.values()} | {MANIFEST}
    with suppress(FileNotFoundError):  # somebody has deleted them: then the live query writes all of them again
        for file in run_directory(tables_dir, manifest.run).iterdir():
            if file.name not in named:
                file.unlink()


def keep_readable(tables_dir: Path, run: str) -> bool:
    """Leave the segments of a run's tables out that cannot be read; whether anything is left of the run."""
    directory = run_directory(tables_dir, run)
    try:
        manifest = read_run_manifest(tables_dir, run)
    except DamagedTables:
        manifest = None
    if manifest is None:
        (directory / MANIFEST).unlink(missing_ok=True)
        return False
    files = {
        name: {segment: file for segment, file in by_segment.items() if _is_readable(directory / file)}
        for name, by_segment in manifest.files.items()
    }
    rows = {name: rows for name, rows in manifest.rows.items() if name != LATEST_EPOCHS}  # may be of such a segment
    write_run_manifest(tables_dir, replace(manifest, files=files, rows=rows))
    return True


def _is_readable(file: Path) -> bool:
    try:
        return pq.read_table(file) is not None
    except (OSError, pa.ArrowException):
        return False


def write_quarantine(tables_dir: Path, lines: pa.Table) -> None:
    """Add bad lines: to the last file, in one atomic step, as long as it has no more than QUARANTINE_FILE_LINES."""
    number, version = 0, 0
    if files := quarantine_files(tables_dir):
        number, version = number_and_version(files[-1])
        kept = _readable_lines(files[-1])
        if kept is not None and kept.num_rows + lines.num_rows <= QUARANTINE_FILE_LINES:
            lines, version = pa.concat_tables([kept, lines]), version + 1
        else:
            number, version = number + 1, 0
    file = versioned_file(tables_dir, number, version)
    write_atomically(file, _parquet_writer(lines, TABLES[QUARANTINE]))
    for replaced in set(file.parent.glob("lines-*-*.parquet")) - set(quarantine_files(tables_dir)):
        replaced.unlink()


def _readable_lines(file: Path) -> pa.Table | None:
    try:
        return pq.read_table(file, schema=TABLES[QUARANTINE])
    except (OSError, pa.ArrowException):
        return None


def write_liveness(tables_dir: Path, *, silent_seconds: float | None, runs_dir: Location | None) -> None:
    """Store how readers judge whether a running run is silent or lost (streaming/tables/liveness.py).

    silent_seconds: without an event; None: never
    runs_dir: directory of the runs, with their heartbeats; None if it is not on this machine
    """
    rule = {
        "format_version": TABLES_FORMAT_VERSION,
        "silent_seconds": silent_seconds,
        # Relative, so that the runs may be moved together with their tables.
        "runs_dir": os.path.relpath(runs_dir.absolute(), tables_dir.absolute())
        if isinstance(runs_dir, Path)
        else runs_dir and str(runs_dir),
    }
    write_text_atomically(tables_dir / LIVENESS, json.dumps(rule, allow_nan=False))


def _parquet_writer(table: pa.Table, schema: pa.Schema) -> Callable[[Path], None]:
    columns = table.select(schema.names).cast(schema)
    # Readers take whole files, which are small: statistics of their columns are of no use.
    return lambda file: pq.write_table(columns, file, compression="zstd", write_statistics=False)
