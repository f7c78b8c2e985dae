"""The update of one run's tables in a micro-batch: its new events, the stored rows, and the rows that change."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from longtail.streaming.events.schema import ClassEvent, own_fields
from longtail.streaming.live.arrow_rows import last_rows, rows_with_keys, split_by_segment
from longtail.streaming.live.segments import Segments
from longtail.streaming.tables.manifest import (
    RunManifest,
    read_run_manifest,
    remove_run_manifest,
    write_run_manifest,
)
from longtail.streaming.tables.reading import latest_epochs
from longtail.streaming.tables.schemas import BY_EPOCH, LATEST_EPOCHS, TABLES
from longtail.streaming.tables.writing import remove_unnamed, write_run

SEGMENT_ROWS = 20_000
"""A segment of class_epochs has as many epochs as give about so many rows, which bounds what an update rewrites."""
SEGMENT_EPOCHS = {"epochs": 1000, "steps": 100}
"""Epochs per segment of the tables that have a few rows per epoch, however many classes there are."""
WHOLE = "all"
"""The only segment of a table that is not stored by epochs."""


@dataclass
class RunUpdate:
    """The update of one run.

    events: its events in the batch, by kind
    num_epochs: how many of the latest epochs the alerts look at
    stored_segments: reads what is stored
    segments: the changed segments, per table and segment; unwritten: the tables whose changes are not written yet
    rows: the changed rows, per table of a few rows
    current: per table, its rows after the update; of tables that grow with the epochs, the latest ones
    stored_manifest: the manifest before the update, None if the tables did not have the run
    """

    tables_dir: Path
    manifest: RunManifest
    events: dict[str, pa.Table]
    num_epochs: int
    stored_segments: Segments
    segments: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    current: dict[str, pa.Table] = field(default_factory=dict)
    stored_manifest: RunManifest | None = None

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.manifest.run

    def change(self, name: str, rows: pa.Table, *, first: int = 0) -> None:
        """Replace the rows of a table; of one that is stored by epochs, the segments from that of epoch `first` on."""
        if name in BY_EPOCH:
            segments = split_by_segment(rows, self.manifest.segment_epochs[name])
            emptied = {segment for segment in self._stored_from(name, first) if segment not in segments}
            self.segments[name] = segments | dict.fromkeys(emptied, rows.slice(0, 0))
        else:
            self.segments[name] = {WHOLE: rows}
        self.unwritten.add(name)
        if name == "class_epochs":
            splits = sorted({*self.manifest.splits, *rows["split"].unique().to_pylist()})
            self.manifest = replace(self.manifest, splits=splits)

    def note_latest_epochs(self) -> None:
        """Let the manifest say what the table `epochs` has of the latest epochs after the update."""
        self.rows[LATEST_EPOCHS] = latest_epochs(self.rows_after_update("epochs")).to_pylist()

    def write(self) -> None:
        """Write the changes that are not written yet."""
        changed = {name: rows for name, rows in self.rows.items() if self.manifest.rows.get(name, []) != rows}
        if self.unwritten or changed:
            segments = {name: self.segments[name] for name in self.unwritten}
            self.manifest = write_run(self.tables_dir, self.manifest, segments, changed, keep_replaced=True)
            self.stored_segments.keep(self.manifest, segments)
            self.unwritten.clear()

    def finish(self) -> None:
        """Remove the files that are replaced: there is no way back."""
        remove_unnamed(self.tables_dir, self.manifest)

    def undo(self) -> None:
        """Make the tables of the run those from before the update; not after `finish`."""
        if self.stored_manifest is None:
            remove_run_manifest(self.tables_dir, self.run)
        else:
            write_run_manifest(self.tables_dir, self.stored_manifest)

    def has_table(self, name: str) -> bool:
        """Whether a table has rows after the update."""
        return name in self.segments or name in self.manifest.files

    def stored(self, name: str) -> pa.Table:
        """The stored rows of a table that is not stored by epochs."""
        return self.stored_segments.read(self.manifest, name, [WHOLE])

    def rows_after_update(self, name: str) -> pa.Table:
        """The rows of a table after the update; of class_epochs the latest epoch of each split, of `epochs` the last
        num_epochs of each split, and of steps the last one, or more."""
        if name not in self.current:
            if name in BY_EPOCH:
                rows = self._last_segments(name, self.num_epochs if name == "epochs" else 1)
                self.current[name] = latest_epochs(rows) if name == "class_epochs" else rows
            else:
                self.current[name] = self.segments[name][WHOLE] if name in self.segments else self.stored(name)
        return self.current[name]

    def _last_segments(self, name: str, num_epochs: int) -> pa.Table:
        stored, changed = self.manifest.files.get(name, {}), self.segments.get(name, {})
        rows = TABLES[name].empty_table()
        segments = sorted({*stored, *changed}, key=int, reverse=True)
        for segment in segments:
            more = changed[segment] if segment in changed else self.stored_segments.read(self.manifest, name, [segment])
            rows = pa.concat_tables([more, rows])
            if len(segments) > 1 and self._has_epochs(rows, num_epochs):
                break
        return rows

    def _has_epochs(self, rows: pa.Table, num_epochs: int) -> bool:
        """Whether rows have so many epochs, of each split if they have splits: some are measured rarely."""
        if "split" not in rows.column_names:
            return len(rows["epoch"].unique()) >= num_epochs
        splits = rows.group_by(["split", "epoch"]).aggregate([])["split"].to_pylist()
        known = self.manifest.splits
        return bool(known) and all(splits.count(split) >= num_epochs for split in known)

    def split_at_epoch(self, name: str, first: int) -> tuple[pa.Table, pa.Table]:
        """The stored rows from the segment of epoch `first` on: those before this epoch, and those from it on."""
        segments = self._stored_from(name, first)
        if not segments:
            return TABLES[name].empty_table(), TABLES[name].empty_table()
        rows = self.stored_segments.read(self.manifest, name, segments)
        is_before = pc.less(rows["epoch"], first)
        return rows.filter(is_before), rows.filter(pc.invert(is_before))

    def not_begun_again(self, name: str, new: pa.Table) -> pa.Table:
        """The new rows of a table by epochs, without those that are void as a higher attempt has stored rows of epochs
        before all of them."""
        attempt = self._attempt_before(name, pc.min(new["epoch"]).as_py()) if new.num_rows else 0
        return new.filter(pc.greater_equal(new["attempt"], attempt)) if attempt else new

    def _attempt_before(self, name: str, first: int) -> int:
        """The attempt of the last stored epoch before `first`, which is the highest up to there; 0 without any."""
        for segment in sorted(self.manifest.files.get(name, {}), key=int, reverse=True):
            if int(segment) <= self.manifest.segment_of(name, first):
                rows = self.stored_segments.read(self.manifest, name, [segment])
                rows = rows.filter(pc.less(rows["epoch"], first))
                if rows.num_rows:
                    return pc.max(rows["attempt"]).as_py()
        return 0

    def _stored_from(self, name: str, first: int) -> list[str]:
        """The stored segments from that of epoch `first` on."""
        stored = self.manifest.files.get(name, {})
        return [segment for segment in stored if int(segment) >= self.manifest.segment_of(name, first)]

    def last_rows_before(self, name: str, first: int, key: list[str], changed: pa.Table) -> pa.Table:
        """The stored row of each key in `changed` with the highest epoch before `first`.

        Segments are read backwards until there is a row for each key: a class or a split may be absent from many.
        """
        rows = TABLES[name].empty_table()
        if name not in self.manifest.files:
            return rows
        keys = changed.group_by(key, use_threads=False).aggregate([])
        for segment in sorted(self.manifest.files.get(name, {}), key=int, reverse=True):
            if int(segment) > self.manifest.segment_of(name, first):
                continue
            more = self.stored_segments.read(self.manifest, name, [segment])
            more = rows_with_keys(more.filter(pc.less(more["epoch"], first)), keys)
            rows = last_rows(pa.concat_tables([more, rows]), key)
            if rows.num_rows == keys.num_rows:
                break
        return rows


def begin_update(
    tables_dir: Path, run: str, events: dict[str, pa.Table], *, num_epochs: int, stored_segments: Segments
) -> RunUpdate:
    """The update of a run by these events, by kind. num_epochs: how many of the latest epochs the alerts look at"""
    stored = read_run_manifest(tables_dir, run)
    manifest = stored or RunManifest(run)
    if not manifest.segment_epochs:
        manifest.segment_epochs.update(SEGMENT_EPOCHS)
    if ClassEvent.kind in events and "class_epochs" not in manifest.segment_epochs:
        rows_per_epoch = events[ClassEvent.kind].group_by(["split", "class_id"]).aggregate([]).num_rows
        manifest.segment_epochs["class_epochs"] = max(1, SEGMENT_ROWS // rows_per_epoch)
    return RunUpdate(tables_dir, manifest, events, num_epochs, stored_segments, stored_manifest=stored)


@dataclass
class ClassHistory:
    """The inputs of the scores of the runs that have class events in a batch.

    first: per run, the first epoch that has a new event
    class_events: class events from this epoch on, stored ones included; duplicates possible
    before, before_epochs: the last rows of class_epochs and of epochs before that epoch
    kept: per run and table, the rows before that epoch in the segments that change
    """

    updates: Sequence[RunUpdate]
    first: dict[str, int]
    class_events: pa.Table
    before: pa.Table
    before_epochs: pa.Table
    kept: dict[tuple[str, str], pa.Table]


def read_class_history(updates: Sequence[RunUpdate]) -> ClassHistory | None:
    """None if no class event counts. updates: of runs with class events"""
    new_events = {
        update.run: update.not_begun_again("class_epochs", update.events[ClassEvent.kind]) for update in updates
    }
    updates = [update for update in updates if new_events[update.run].num_rows]
    if not updates:
        return None
    class_events, before, before_epochs = [], [], []
    kept: dict[tuple[str, str], pa.Table] = {}
    first_epochs: dict[str, int] = {}
    for update in updates:
        new = new_events[update.run]
        first = first_epochs[update.run] = pc.min(new["epoch"]).as_py()
        kept[update.run, "class_epochs"], stored = update.split_at_epoch("class_epochs", first)
        kept[update.run, "epochs"], _ = update.split_at_epoch("epochs", first)
        changed = pa.concat_tables([part.select(own_fields(ClassEvent)) for part in (new, stored)])
        class_events.append(changed)
        before.append(update.last_rows_before("class_epochs", first, ["split", "class_id"], changed))
        before_epochs.append(update.last_rows_before("epochs", first, ["split"], changed))
    tables = (pa.concat_tables(parts) for parts in (class_events, before, before_epochs))
    return ClassHistory(updates, first_epochs, *tables, kept=kept)
