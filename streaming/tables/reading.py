"""Reads the result tables of the live query in any process. No Spark.

    table = read_result_table(tables_dir, "epochs", run="base")   # a pyarrow.Table; of all runs without run=
    runs = list_runs(tables_dir)                                  # streaming/tables/manifest.py

streaming/tables/schemas.py describes each table.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.streaming.tables.liveness import read_liveness
from longtail.streaming.tables.manifest import (
    MANIFEST,
    DamagedTables,
    ReadManifest,
    RunManifest,
    list_runs,
    manifest_state,
    read_run_manifest,
    run_directory,
)
from longtail.streaming.tables.quarantine_files import quarantine_files
from longtail.streaming.tables.query_rows import NO_RUN, own_alerts
from longtail.streaming.tables.schemas import IN_MANIFEST, LATEST_EPOCHS, QUARANTINE, TABLES, schema_of

_MAX_TRIES = 50


def read_result_table(
    tables_dir: Path,
    name: str,
    run: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    now: float | None = None,
) -> pa.Table:
    """A result table of one run, or of all runs; empty if the tables do not have the run.

    columns: the columns to read, by default all
    now: seconds since 1970-01-01 UTC at which a running run is judged to be silent (`alerts`) or lost (`runs`); by
        default the present
    """
    schema = TABLES[name]
    names = list(columns or schema.names)
    if name == QUARANTINE:
        assert run is None, "a line that is no event belongs to no run"
        parts = _read_quarantine(tables_dir, columns)
    else:
        runs = list_runs(tables_dir) if run is None else [run] if manifest_state(tables_dir, run) else []

        def stored(table: str, columns: Sequence[str] | None = None) -> list[pa.Table]:
            return [part for one in runs for part in read_parts(tables_dir, table, one, columns=columns).values()]

        if name in IN_MANIFEST:
            moment, about = time.time() if now is None else now, runs if run else [*runs, NO_RUN]
            parts = [part.select(names) for part in at_moment(tables_dir, name, stored, now=moment, about=about)]
        else:
            parts = stored(name, columns)
    # Combined, because Spark's createDataFrame reads nothing after an empty chunk.
    return pa.concat_tables([schema.empty_table().select(names), *parts]).combine_chunks()


def at_moment(
    tables_dir: Path, name: str, stored: Callable[[str], list[pa.Table]], *, now: float, about: Collection[str]
) -> list[pa.Table]:
    """A table of IN_MANIFEST as it is at a moment: which runs are lost, and all alerts.

    stored: gives the stored rows of such a table, of the runs that are read
    about: these runs, and NO_RUN if the user's own alerts about no single run are wanted, too
    """
    liveness = read_liveness(tables_dir)
    runs = pa.concat_tables([TABLES["runs"].empty_table(), *stored("runs")])
    if name == "runs":
        return [liveness.judged(runs, now=now)]
    return [*stored(name), liveness.alerts(runs, now=now), own_alerts(tables_dir, about)]


def read_parts(
    tables_dir: Path,
    name: str,
    run: str,
    *,
    columns: Sequence[str] | None = None,
    known: Mapping[str, pa.Table] = MappingProxyType({}),
    read_manifest: ReadManifest = read_run_manifest,
) -> dict[str, pa.Table]:
    """The rows of a run in a table, or in LATEST_EPOCHS, by the name of the file that holds them; empty for an unknown
    run.

    known: parts that were read before; files never change, so these are not read again
    """
    schema = schema_of(name)
    for _ in range(_MAX_TRIES):
        manifest = read_manifest(tables_dir, run)
        if manifest is None:
            return {}
        if name in IN_MANIFEST or name in manifest.rows:
            rows = pa.Table.from_pylist(manifest.rows.get(name, []), schema=schema)
            return {MANIFEST: rows.select(columns or schema.names)}
        if name == LATEST_EPOCHS:  # of tables that an earlier version wrote
            parts = read_parts(tables_dir, "epochs", run, read_manifest=read_manifest).values()
            rows = latest_epochs(pa.concat_tables([schema.empty_table(), *parts]))
            return {MANIFEST: rows.select(columns or schema.names)}
        directory, files = run_directory(tables_dir, run), manifest.files.get(name, {}).values()
        try:
            return {
                file: known[file] if file in known else _read_file(directory / file, name, columns) for file in files
            }
        except FileNotFoundError as error:
            if read_manifest(tables_dir, run) == manifest:
                raise DamagedTables(run, Path(str(error.filename or directory / MANIFEST)), "it is missing") from None
            continue  # replaced since the manifest was read
        except (OSError, pa.ArrowException) as error:
            raise DamagedTables(run, _first_unreadable(directory, files, name), error) from None
    raise RuntimeError(f"the tables of {run} in {tables_dir} change faster than they can be read")


def read_segment(tables_dir: Path, run: str, name: str, file: str) -> pa.Table:
    """The rows of one file of a table. Only for the writer of the tables, who replaces no file meanwhile.

    Raises DamagedTables if the file is missing or cannot be read.
    """
    path = run_directory(tables_dir, run) / file
    try:
        return _read_file(path, name)
    except (OSError, pa.ArrowException) as error:
        raise DamagedTables(run, path, error) from None


def missing_file(tables_dir: Path, manifest: RunManifest) -> Path | None:
    """A file that the manifest names and that is not there, None if all are."""
    directory = run_directory(tables_dir, manifest.run)
    names = (name for by_segment in manifest.files.values() for name in by_segment.values())
    return next((directory / name for name in names if not (directory / name).is_file()), None)


def _read_quarantine(tables_dir: Path, columns: Sequence[str] | None) -> list[pa.Table]:
    for _ in range(_MAX_TRIES):
        files = quarantine_files(tables_dir)
        parts = []
        for file in files:
            with contextlib.suppress(OSError, pa.ArrowException):  # a damaged file says nothing, and stops nobody
                parts.append(_read_file(file, QUARANTINE, columns))
        if all(file.exists() for file in files):  # none was replaced since it was listed
            return parts
    raise RuntimeError(f"the quarantine of {tables_dir} changes faster than it can be read")


def latest_epochs(table: pa.Table) -> pa.Table:
    """The rows of class_epochs or epochs at the latest epoch of each run and split."""
    runs, splits = (table[name].combine_chunks().dictionary_encode() for name in ("run", "split"))
    group = runs.indices.to_numpy() * len(splits.dictionary) + splits.indices.to_numpy()
    epochs, latest = table["epoch"].to_numpy(), np.zeros(len(runs.dictionary) * len(splits.dictionary), np.int64)
    np.maximum.at(latest, group, epochs)
    return table.filter(pa.array(epochs == latest[group]))


def rows_where(table: pa.Table, **equal: Any) -> pa.Table:
    """The rows whose columns have these values."""
    for name, value in equal.items():
        table = table.filter(pc.equal(table[name], value))
    return table


def _read_file(file: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    schema, names = TABLES[name], list(columns or TABLES[name].names)
    with pq.ParquetFile(file) as parquet:  # a third of what read_table takes, and old runs have many small files
        if parquet.schema_arrow.equals(schema):
            return parquet.read(columns=names).select(names)
    # Columns that an older version of Longtail did not write are null.
    return pq.read_table(file, schema=schema, columns=names)


def _first_unreadable(directory: Path, files: Iterable[str], name: str) -> Path:
    for file in files:
        try:
            _read_file(directory / file, name)
        except (OSError, pa.ArrowException):
            return directory / file
    return directory / MANIFEST
