"""The result tables as Delta tables: for whoever queries them with Delta's own readers, time travel included.

    sink = DeltaTables(tables_dir, tables_dir / DELTA_DIRECTORY)   # delta/runs, delta/epochs and so on
    start_live_query(..., on_update=sink.update)

A Delta table has exactly the files that the manifests of the runs name (streaming/tables/store.py), hard links to
them where the file system has such. An update is one transaction a table: it adds the files that the log lacks and
removes those that no manifest names any more. What the log has is read from the log; so an update that was cut short,
or is repeated after a restart, adds each row once.

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

from longtail.conf.base.files import write_atomically
from longtail.conf.base.optional_packages import deltalake
from longtail.streaming.tables.store import (
    IN_MANIFEST,
    QUARANTINE,
    TABLES,
    RunManifest,
    quarantine_files,
    read_manifest,
    run_directory,
)

DELTA_DIRECTORY = "delta"
"""Beside the tables they are made from."""
RETENTION = "interval 1 hours"
"""Readers of an older version have so long before its files go: an epoch replaces up to a segment of each table."""
TRANSACTIONS_A_CLEANING = 100


class DeltaTables:
    """The one writer of a directory of Delta tables; give `update` to the live query as on_update.

    Raises UserError if delta-rs is not installed.
    """

    def __init__(self, tables_dir: Path, delta_dir: Path) -> None:
        self._deltalake = deltalake()
        self._tables_dir, self._delta_dir = tables_dir, delta_dir
        configuration = {"delta.logRetentionDuration": RETENTION, "delta.deletedFileRetentionDuration": RETENTION}
        self._tables: dict[str, Any] = {}
        self._transactions: Counter[str] = Counter()
        self._files: dict[str, dict[str, set[str]]] = {}
        for name, schema in TABLES.items():
            table = self._deltalake.DeltaTable.create(
                str((delta_dir / name).absolute()), schema, mode="ignore", configuration=configuration
            )
            self._tables[name] = table
            self._files[name] = {}
            for path in pa.table(table.get_add_actions())["path"].to_pylist():
                self._files[name].setdefault(_owner(path), set()).add(path)

    def update(self, runs: Sequence[str]) -> None:
        """The tables of these runs have changed, or the quarantine has."""
        manifests = [manifest for run in runs if (manifest := read_manifest(self._tables_dir, run))]
        for name in TABLES:
            if name == QUARANTINE:
                wanted = {"": {file.name: file for file in quarantine_files(self._tables_dir)}}
            elif name in IN_MANIFEST:
                wanted = {manifest.run: self._written_rows(name, manifest) for manifest in manifests}
            else:
                wanted = {manifest.run: self._segments(name, manifest) for manifest in manifests}
            self._commit(name, wanted)

    def _segments(self, name: str, manifest: RunManifest) -> dict[str, Path]:
        directory = run_directory(self._tables_dir, manifest.run)
        return {f"{manifest.run}/{file}": directory / file for file in manifest.files.get(name, {}).values()}

    def _written_rows(self, name: str, manifest: RunManifest) -> dict[str, Path]:
        """The rows that a manifest has itself, as a file whose name changes with them."""
        rows = manifest.rows.get(name, [])
        if not rows:
            return {}
        mark = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
        path = f"{manifest.run}/{name}-{mark}.parquet"
        file = self._delta_dir / name / path
        if not file.exists():
            table = pa.Table.from_pylist(rows, schema=TABLES[name])
            write_atomically(file, partial(pq.write_table, table))
        return {path: file}

    def _commit(self, name: str, wanted: dict[str, dict[str, Path]]) -> None:
        """wanted: by run, its files by their paths in the Delta table; other runs' files stay."""
        known = {path for owner in wanted for path in self._files[name].get(owner, ())}
        files = {path: file for of_owner in wanted.values() for path, file in of_owner.items()}
        added, removed = files.keys() - known, known - files.keys()
        if not added and not removed:
            return
        for path in added:
            _link(files[path], self._delta_dir / name / path)
        actions = [*map(partial(self._addition, name), sorted(added)), *map(self._removal, sorted(removed))]
        table = self._tables[name]
        # A checkpoint forgets which files were given up long ago: it is made only once they are gone.
        later = self._deltalake.PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
        table.create_write_transaction(actions, "append", TABLES[name], post_commithook_properties=later)
        table.update_incremental()
        for owner, of_owner in wanted.items():
            self._files[name][owner] = set(of_owner)
        self._transactions[name] += 1
        if self._transactions[name] % TRANSACTIONS_A_CLEANING == 0:
            table.vacuum(dry_run=False, post_commithook_properties=later)
            table.create_checkpoint()
            table.cleanup_metadata()

    def _addition(self, name: str, path: str) -> Any:
        file = self._delta_dir / name / path
        found = file.stat()
        statistics: dict[str, Any] = {"numRecords": pq.read_metadata(file).num_rows}
        if run := _owner(path):
            # A reader who asks for one run opens its files only.
            statistics |= {"minValues": {"run": run}, "maxValues": {"run": run}, "nullCount": {"run": 0}}
        return self._deltalake.transaction.AddAction(
            path=path,
            size=found.st_size,
            partition_values={},
            modification_time=int(found.st_mtime * 1000),
            data_change=True,
            stats=json.dumps(statistics),
        )

    def _removal(self, path: str) -> Any:
        return self._deltalake.transaction.RemoveAction(path, True, int(time.time() * 1000))


def _owner(path: str) -> str:
    """The run whose file it is; empty for the quarantine."""
    return path.rpartition("/")[0]


def _link(file: Path, link: Path) -> None:
    """The file under a second name. A file of this name is the same already: no name is given twice."""
    if link.exists():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, link)
    except OSError:  # another file system, or one without such links
        write_atomically(link, partial(shutil.copyfile, file))
