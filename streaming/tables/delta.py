"""The result tables as Delta tables, for Delta's own readers, time travel included.

    sink = DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY)   # delta/runs, delta/epochs and so on
    start_live_query(..., on_update=sink.update)

A Delta table consists of exactly the files that the manifests of the runs name (streaming/tables/manifest.py), as hard
links where the file system supports them. An update is one transaction per table: it adds the files that are missing in
the log and removes those that no manifest names any more. As the log itself says which files it has, an update that was
interrupted, or is repeated after a restart, adds each row once.

delta-rs writes the log (conf/base/optional_packages.py).
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.base.optional_packages import deltalake
from longtail.streaming.tables.manifest import (
    RunManifest,
    check_tables_version,
    list_runs,
    read_run_manifest,
    run_directory,
)
from longtail.streaming.tables.quarantine_files import quarantine_files
from longtail.streaming.tables.schemas import IN_MANIFEST, QUARANTINE, TABLES, TABLES_FORMAT_VERSION

DELTA_DIRECTORY = "delta"
"""Default directory of the Delta tables, inside the directory of the result tables."""
DESCRIPTION = "longtail result table, format version "
"""Description in the metadata of each Delta table, followed by the version (delta-rs refuses custom properties)."""
RETENTION = "interval 1 hours"
"""How long readers of an older version have before its files are removed: an epoch replaces up to one segment of each
table."""
TRANSACTIONS_PER_CLEANING = 100


class DeltaTables:
    """The only writer of a directory of Delta tables; pass `update` to the live query as on_update.

    Raises UserError if delta-rs is not installed, or if a newer version of Longtail has written the tables.
    """

    # delta-rs is optional and has no type annotations that cover its transactions: its objects are Any here.

    def __init__(self, tables_dir: Path, delta_dir: Path) -> None:
        self._deltalake = deltalake()
        self._tables_dir, self._delta_dir = tables_dir, delta_dir
        self._tables: dict[str, Any] = {}
        self._transactions: Counter[str] = Counter()
        self._files: dict[str, dict[str, set[str]]] = {}
        for name in TABLES:
            self._open_table(name)
        self._unchecked = {run for of_table in self._files.values() for run in of_table if run}

    def _open_table(self, name: str) -> None:
        table = self._open(self._delta_dir / name, TABLES[name])
        self._tables[name] = table
        self._files[name] = {}
        for path in pa.table(table.get_add_actions())["path"].to_pylist():
            self._files[name].setdefault(_run_of(path), set()).add(path)

    def _open(self, directory: Path, schema: pa.Schema) -> Any:
        try:
            table = self._deltalake.DeltaTable.create(
                str(directory.absolute()),
                schema,
                mode="ignore",
                description=f"{DESCRIPTION}{TABLES_FORMAT_VERSION}",
                configuration={
                    "delta.logRetentionDuration": RETENTION,
                    "delta.deletedFileRetentionDuration": RETENTION,
                },
            )
        except self._deltalake.exceptions.DeltaError as error:
            raise UserError(
                f"cannot read the Delta table {directory} ({error}): delete the directory, and it is written again"
            ) from None
        check_tables_version(int(table.metadata().description.removeprefix(DESCRIPTION)), directory)
        known = {field.name for field in table.schema().fields}
        if later := [self._deltalake.Field.from_arrow(field) for field in schema if field.name not in known]:
            table.alter.add_columns(later)  # null in the rows of an older version
        return table

    def update(self, runs: Sequence[str]) -> None:
        """Write the changes of the tables of these runs, and of the quarantine.

        The first time, also of the runs that the Delta tables have: some may have been deleted meanwhile. After a Delta
        table was deleted, of all runs.
        """
        for name in TABLES:
            if not (self._delta_dir / name / "_delta_log").is_dir():  # somebody has deleted the table
                self._open_table(name)
                self._unchecked |= set(list_runs(self._tables_dir))
        runs = list(dict.fromkeys([*runs, *sorted(self._unchecked)]))
        manifests = [manifest for run in runs if (manifest := read_run_manifest(self._tables_dir, run))]
        gone = set(runs) - {manifest.run for manifest in manifests}
        for name in TABLES:
            if name == QUARANTINE:
                files = {"": {file.name: file for file in quarantine_files(self._tables_dir)}}
            elif name in IN_MANIFEST:
                files = {manifest.run: self._rows_file(name, manifest) for manifest in manifests}
            else:
                files = {manifest.run: self._segment_files(name, manifest) for manifest in manifests}
            self._commit(name, {**dict.fromkeys(gone, {}), **files})
        self._unchecked = set()

    def _segment_files(self, name: str, manifest: RunManifest) -> dict[str, Path]:
        directory = run_directory(self._tables_dir, manifest.run)
        return {f"{manifest.run}/{file}": directory / file for file in manifest.files.get(name, {}).values()}

    def _rows_file(self, name: str, manifest: RunManifest) -> dict[str, Path]:
        """A file of the rows that are stored in a manifest, with a name that depends on them."""
        rows = manifest.rows.get(name, [])
        if not rows:
            return {}
        digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
        path = f"{manifest.run}/{name}-{digest}.parquet"
        file = self._delta_dir / name / path
        if not file.exists():
            table = pa.Table.from_pylist(rows, schema=TABLES[name])
            write_atomically(file, partial(pq.write_table, table))
        return {path: file}

    def _commit(self, name: str, files: dict[str, dict[str, Path]]) -> None:
        """files: by run, all its files by their paths in the Delta table; the files of other runs stay"""
        known = {path for run in files for path in self._files[name].get(run, ())}
        wanted = {path: file for of_run in files.values() for path, file in of_run.items()}
        present = {path for path in known if (self._delta_dir / name / path).exists()}
        added, removed = wanted.keys() - present, known - wanted.keys()
        if not added and not removed:
            return
        for path in added:
            _link(wanted[path], self._delta_dir / name / path)
        actions = [*map(partial(self._addition, name), sorted(added)), *map(self._removal, sorted(removed))]
        table = self._tables[name]
        # A checkpoint forgets which files were removed: it is made only after their removal from the disk.
        later = self._deltalake.PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
        table.create_write_transaction(actions, "append", TABLES[name], post_commithook_properties=later)
        table.update_incremental()
        for run, of_run in files.items():
            self._files[name][run] = set(of_run)
        self._transactions[name] += 1
        if self._transactions[name] % TRANSACTIONS_PER_CLEANING == 0:
            table.vacuum(dry_run=False, post_commithook_properties=later)
            table.create_checkpoint()
            table.cleanup_metadata()

    def _addition(self, name: str, path: str) -> Any:
        file = self._delta_dir / name / path
        status = file.stat()
        statistics: dict[str, Any] = {"numRecords": pq.read_metadata(file).num_rows}
        if run := _run_of(path):
            # A reader that filters by run opens the files of that run only.
            statistics |= {"minValues": {"run": run}, "maxValues": {"run": run}, "nullCount": {"run": 0}}
        return self._deltalake.transaction.AddAction(
            path=path,
            size=status.st_size,
            partition_values={},
            modification_time=int(status.st_mtime * 1000),
            data_change=True,
            stats=json.dumps(statistics, allow_nan=False),
        )

    def _removal(self, path: str) -> Any:
        return self._deltalake.transaction.RemoveAction(path, True, int(time.time() * 1000))


def _run_of(path: str) -> str:
    """The run that a file of a Delta table belongs to; empty for the quarantine."""
    return path.rpartition("/")[0]


def _link(file: Path, link: Path) -> None:
    """Hard-link the file, or copy it. An existing link is up to date, because names of files are unique."""
    if link.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, link)
    except OSError:  # another file system, or one without hard links
        write_atomically(link, partial(_copy, file))


def _copy(file: Path, target: Path) -> None:
    shutil.copyfile(file, target)
