"""Reads the result tables of a directory for the page, with a cache of what has not changed."""

import contextlib
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.streaming.dashboard.notes import RunNotes
from longtail.streaming.dashboard.shown_run import CLASS_COLUMNS
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.tables.deletions import is_of_present_run, read_deletion_times
from longtail.streaming.tables.descriptions import descriptions_state, read_table_descriptions
from longtail.streaming.tables.manifest import (
    DamagedTables,
    KnownManifests,
    ManifestState,
    check_format_versions,
    manifest_state,
    manifest_states,
)
from longtail.streaming.tables.progress import read_progress
from longtail.streaming.tables.quarantine_files import quarantine_files
from longtail.streaming.tables.query_rows import NO_RUN, own_alerts_state
from longtail.streaming.tables.reading import at_moment, read_parts, rows_where
from longtail.streaming.tables.schemas import IN_MANIFEST, LATEST_EPOCHS, QUARANTINE, RUNNING, TABLES, schema_of
from longtail.streaming.tables.waiting_runs import FileState, read_waiting_runs, waiting_state

SILENCE_SECONDS = 15
"""While a training runs, alerts are read again at this interval even without new events, to notice silent runs."""
_MAX_CACHED_RUNS = {
    "class_epochs": 8,
    "confusion": 8,
    "pseudo_labels": 8,
    "unlabeled_estimates": 8,
    "steps": 8,
    "predictions": 8,
}
"""Number of runs that are cached per table, and of small ones more, up to CACHED_BYTES; of the other tables, all."""
CACHED_BYTES = 64 * 2**20
_COLUMNS = {"class_epochs": CLASS_COLUMNS}
"""The columns to read, by default all."""


@dataclass(frozen=True)
class _CachedRun:
    """One run's rows of a table.

    state: manifest_state of the run
    parts: rows by file; whole: all rows
    """

    state: ManifestState | None
    parts: dict[str, pa.Table]
    whole: pa.Table


class TableReader:
    """Reads tables by name and run; thread-safe.

    tables_dir: may be created later

    Raises UserError if a newer version of Longtail has written the tables.
    """

    def __init__(self, tables_dir: Path) -> None:
        self._manifests = KnownManifests()
        check_format_versions(tables_dir, read=self._manifests.read)
        self.directory = tables_dir
        self._lock = Lock()
        self._damage: dict[tuple[str, str], str] = {}
        self._bad_lines: dict[Path, pa.Table] = {}
        self._whole: dict[str, tuple[dict[str, ManifestState], pa.Table]] = {}
        self._cached: dict[str, OrderedDict[str, _CachedRun]] = {
            name: OrderedDict() for name in (*TABLES, LATEST_EPOCHS)
        }
        self._num_bytes = dict.fromkeys(_MAX_CACHED_RUNS, 0)
        self._waiting: tuple[FileState | None, dict[str, pa.Table]] = (None, {})

    def version(self) -> str:
        """A text that changes whenever a table does."""
        states = manifest_states(self.directory)
        statuses = self._rows("runs", None, states).select(["run", "status"]).to_pylist()
        bad = [file.name for file in quarantine_files(self.directory)]
        others = descriptions_state(self.directory), own_alerts_state(self.directory), read_progress(self.directory)
        digest = hashlib.sha256(repr((states, statuses, bad, *others)).encode()).hexdigest()
        running = any(row["status"] == RUNNING for row in statuses)
        return f"{digest[:16]}-{int(time.time() // SILENCE_SECONDS) if running else 0}"

    def notes(self) -> RunNotes:
        """The descriptions of the runs, and which of the tables that were read are damaged."""
        with self._lock:
            damage = {run: text for (run, _), text in self._damage.items()}
        return RunNotes(
            descriptions=read_table_descriptions(self.directory),
            damage=damage,
            progress=read_progress(self.directory),
            deleted_at=read_deletion_times(self.directory),
        )

    def read(self, name: str, run: str | None = None) -> pa.Table:
        """A result table of one run or of all; empty for a run that is not in the tables, whatever its name."""
        if name == QUARANTINE:
            return self._read_quarantine()
        return self._rows(name, run, manifest_states(self.directory) if run is None else self._state_of(run))

    def _rows(self, name: str, run: str | None, states: dict[str, ManifestState]) -> pa.Table:
        """As read; states: manifest_states of the run, or of all"""
        waiting = self._read_waiting(states, run)
        if name == LATEST_EPOCHS and waiting:
            waiting = {name: waiting["epochs"]}

        def stored(table: str) -> list[pa.Table]:
            others = [waiting[table]] if table in waiting else []
            if run is None:
                return [self._of_all(table, states), *others]
            return [self._of_run_if_intact(table, run)] if run in states else others

        if name in IN_MANIFEST:
            about = [*states, NO_RUN] if run is None else list(states)
            parts = at_moment(self.directory, name, stored, now=time.time(), about=about)
        else:
            parts = stored(name)
        return pa.concat_tables([_no_rows(name), *parts])

    def _read_waiting(self, states: dict[str, ManifestState], run: str | None) -> dict[str, pa.Table]:
        """What archives say of a run, or of all, whose tables are not written yet; by table."""
        state = waiting_state(self.directory)
        if state is None:
            return {}
        with self._lock:
            known, rows = self._waiting
        if known != state:
            rows = read_waiting_runs(self.directory)
            with self._lock:
                self._waiting = state, rows
        runs, deleted_at = rows["runs"], read_deletion_times(self.directory)
        present = is_of_present_run(runs["run"], runs["updated_at"], deleted_at)
        deleted = runs["run"].filter(pc.invert(present))
        hidden = pa.concat_arrays([pa.array(states, pa.string()), deleted.combine_chunks()])
        rows = {name: table.filter(pc.invert(pc.is_in(table["run"], hidden))) for name, table in rows.items()}
        return rows if run is None else {name: rows_where(table, run=run) for name, table in rows.items()}

    def _state_of(self, run: str) -> dict[str, ManifestState]:
        """As manifest_states, of one run; empty for anything that is no run of the tables, whatever its name."""
        state = manifest_state(self.directory, run) if RUN_NAME.fullmatch(run) else None
        return {} if state is None else {run: state}

    def _of_all(self, name: str, states: dict[str, ManifestState]) -> pa.Table:
        """The rows of all runs, in one piece: of many old runs, hardly any changes between two looks."""
        with self._lock:
            known, whole = self._whole.get(name, ({}, _no_rows(name)))
        if known == states:
            return whole
        whole = pa.concat_tables([_no_rows(name), *(self._of_run_if_intact(name, run) for run in states)])
        whole = whole.combine_chunks()
        with self._lock:
            # A damaged table may be put back as it was: it is tried again.
            is_intact = not any((run, name) in self._damage for run in states)
            self._whole[name] = (states if is_intact else {}, whole)
        return whole

    def _of_run_if_intact(self, name: str, run: str) -> pa.Table:
        """The rows of a run, none if its table is damaged, so that the page shows all the others."""
        try:
            rows = self._of_run(name, run)
        except DamagedTables as error:
            with self._lock:
                self._damage[run, name] = str(error)
            return _no_rows(name)
        with self._lock:
            self._damage.pop((run, name), None)
        return rows

    def _read_quarantine(self) -> pa.Table:
        files = quarantine_files(self.directory)
        with self._lock:
            self._bad_lines = {file: lines for file, lines in self._bad_lines.items() if file in files}
            for file in files:
                if file not in self._bad_lines:  # files never change
                    with contextlib.suppress(OSError, pa.ArrowException):  # a damaged one says nothing
                        self._bad_lines[file] = pq.read_table(file, schema=TABLES[QUARANTINE])
            known = [self._bad_lines[file] for file in files if file in self._bad_lines]
        return pa.concat_tables([TABLES[QUARANTINE].empty_table(), *known])

    def _of_run(self, name: str, run: str) -> pa.Table:
        state = manifest_state(self.directory, run)
        cached = self._cached[name]
        with self._lock:
            before = cached.get(run)
            if before is not None and before.state == state:
                cached.move_to_end(run)
                return before.whole
        # An epoch of a long run with many classes changes one file of many.
        known = before.parts if before else {}
        columns = _COLUMNS.get(name)
        parts = read_parts(self.directory, name, run, columns=columns, known=known, read_manifest=self._manifests.read)
        whole = pa.concat_tables([_no_rows(name), *parts.values()])
        with self._lock:
            replaced = cached.pop(run, None)
            cached[run] = _CachedRun(state, parts, whole)
            if most := _MAX_CACHED_RUNS.get(name):
                # A total that goes along: a sum over all runs for each of a thousand takes minutes.
                self._num_bytes[name] += whole.nbytes - (replaced.whole.nbytes if replaced else 0)
                while len(cached) > most and self._num_bytes[name] > CACHED_BYTES:
                    _, oldest = cached.popitem(last=False)
                    self._num_bytes[name] -= oldest.whole.nbytes
        return whole


def _no_rows(name: str) -> pa.Table:
    return schema_of(name).empty_table().select(_COLUMNS.get(name, schema_of(name).names))
