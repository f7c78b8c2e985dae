"""What users do with runs and files while their tables are kept: deleted, restored and described runs, damaged tables.

TABLES_DIR/rebuilding/RUN       a run whose tables are being written again; a killed process is followed by another
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.run_lines import RunLines
from longtail.streaming.runs.following import deletion_times, follow_runs
from longtail.streaming.runs.trash import remove, trash_entries
from longtail.streaming.tables.deletions import is_of_present_run
from longtail.streaming.tables.known_runs import read_known_runs, write_known_runs
from longtail.streaming.tables.manifest import MANIFEST, DamagedTables, list_runs, read_run_manifest, run_directory
from longtail.streaming.tables.reading import missing_file
from longtail.streaming.tables.writing import keep_readable

REBUILDING = "rebuilding"
LOOK_SECONDS_OF_STORES = 10.0


class FollowedRuns:
    """The runs of a directory of tables. Only for the holder of the tables' lock.

    runs_dir: with the trash, the descriptions and the events of the runs; None for none
    """

    def __init__(self, tables_dir: Path, runs_dir: Location | None) -> None:
        self._tables_dir, self._runs_dir = tables_dir, runs_dir
        self._known = {*read_known_runs(tables_dir), *list_runs(tables_dir)}
        self._deleted_at: dict[str, float] = {}
        self._checked: dict[str, tuple[int, int]] = {}
        self._next_look = -math.inf

    def follow(self) -> list[str]:
        """Make the tables follow the trash and the descriptions; the names of the runs whose tables changed."""
        if self._runs_dir is None or (isinstance(self._runs_dir, StorePath) and monotonic() < self._next_look):
            return []
        self._next_look = monotonic() + LOOK_SECONDS_OF_STORES
        changed = follow_runs(self._runs_dir, self._tables_dir)
        self._deleted_at = deletion_times(trash_entries(self._runs_dir))
        if changed:
            self._known = self._known - set(changed) | {*changed} & {*list_runs(self._tables_dir)}
        return changed

    @property
    def deleted(self) -> frozenset[str]:
        """The runs whose deletion is in force, so that events until then do not count."""
        return frozenset(self._deleted_at)

    def without_deleted(self, events: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        """The events, by kind, without those of deleted runs from before their deletion."""
        if not self._deleted_at:
            return dict(events)
        kept = {}
        for kind, table in events.items():
            counts = is_of_present_run(table["run"], table["emitted_at"], self._deleted_at)
            if pc.any(counts).as_py():
                kept[kind] = table.filter(counts)
        return kept

    def remember(self, runs: Iterable[str]) -> None:
        """Note that the tables have these runs."""
        if new := {*runs} - self._known:
            self._known |= new
            self._write_known()

    def damaged(self) -> list[str]:
        """The runs whose tables, or a file of them, are no longer there, or whose writing was interrupted."""
        directory = self._tables_dir / REBUILDING
        interrupted = [file.name for file in directory.iterdir()] if directory.is_dir() else []
        return [*interrupted, *(run for run in sorted(self._known - {*interrupted}) if self._is_damaged(run))]

    def _is_damaged(self, run: str) -> bool:
        directory = run_directory(self._tables_dir, run)
        try:
            # Removing or adding a file changes the directory, and writing into the manifest that: an intact run costs
            # two looks.
            changed_at = directory.stat().st_mtime_ns, (directory / MANIFEST).stat().st_mtime_ns
        except OSError:
            return True
        if self._checked.get(run) != changed_at:
            try:
                manifest = read_run_manifest(self._tables_dir, run)
            except DamagedTables:
                return True
            if manifest is None or missing_file(self._tables_dir, manifest):
                return True
            self._checked[run] = changed_at
        return False

    @contextmanager
    def rebuilding(self, run: str) -> Iterator[Iterator[pa.Table]]:
        """Write the tables of a run again within the block, from the batches of lines that this gives.

        The lines hold events of other runs too. If there are no events of the run any more, what can be read of its
        tables stays, and a line says so.
        """
        lines = RunLines(self._runs_dir / EVENTS_DIRECTORY, run) if self._runs_dir else None
        if lines is None or not lines.exist():
            is_there = keep_readable(self._tables_dir, run)
            self._forget(run, unless=is_there)
            _tell(
                f"tables of {run} in {self._tables_dir} were deleted or damaged, and there are no event files of it: "
                + ("they have gaps now" if is_there else "the run is left out")
            )
            yield iter(())
            return
        marker = self._tables_dir / REBUILDING / run
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        remove(run_directory(self._tables_dir, run))
        # Remembered again when something is written: if somebody deletes that at once, it is noticed.
        self._known.discard(run)
        yield lines.batches()
        self._write_known()
        marker.unlink(missing_ok=True)
        _tell(f"tables of {run} in {self._tables_dir} were deleted or damaged: they are written again from its events")

    def _forget(self, run: str, *, unless: bool) -> None:
        if not unless:
            self._known.discard(run)
            self._write_known()
            (self._tables_dir / REBUILDING / run).unlink(missing_ok=True)

    def _write_known(self) -> None:
        write_known_runs(self._tables_dir, self._known)


def _tell(message: str) -> None:
    print(f"longtail: {message}", file=sys.stderr, flush=True)
