"""Keeps the result tables up to date with the metric events of one micro-batch after another.

Only runs that a batch speaks of are touched, and of these only the segments from
the first epoch that it changes; the state is the tables themselves. Each event
goes into the tables once however often it comes, because the queries count
repetitions once: so a batch that is processed again, after a kill at whatever
moment, leaves the tables as they were.
"""

import fcntl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

from longtail.conf.alerts import AlertRules
from longtail.conf.base.errors import UserError
from longtail.streaming.alerts import epochs_needed
from longtail.streaming.events.schema import ClassEvent, StepEvent
from longtail.streaming.live.bundle import unbundled
from longtail.streaming.live.keeper_queries import (
    CLASS_KEY,
    FACTS,
    REPORT_TABLES,
    SCORES,
    STANDING_TABLES,
    prepared_queries,
    schemas_of,
    signs_of,
)
from longtail.streaming.live.line_reader import LineReader
from longtail.streaming.tables.store import (
    BY_EPOCH,
    TABLES,
    RunManifest,
    latest_epochs,
    read_manifest,
    read_segments,
    write_quarantine,
    write_run,
    write_silence_rule,
)

SEGMENT_ROWS = 20_000
"""A segment of class_epochs has as many epochs as give about so many rows: what an update rewrites is bounded."""
SEGMENT_EPOCHS = {"epochs": 1000, "steps": 100}
"""Epochs of a segment of the tables that have a few rows an epoch, however many classes there are."""
BATCH_DIRECTORY = "batch"
"""Where the inputs of the queries lie, those of one micro-batch after another."""
WHOLE = "all"
"""The one segment of a table that is not kept by epochs."""


@dataclass
class _RunUpdate:
    """One run in a batch.

    new: its events by kind
    segments: what changes, per table and segment; unwritten: the tables of which that is not written yet
    rows: what changes, per table of a few rows
    now: per table, rows as they are after the update; of tables that grow with the epochs, the latest
    """

    manifest: RunManifest
    new: dict[str, pa.Table]
    segments: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    now: dict[str, pa.Table] = field(default_factory=dict)

    @property
    def run(self) -> str:
        return self.manifest.run

    def found(self, name: str, segments: dict[str, pa.Table]) -> None:
        self.segments[name] = segments
        self.unwritten.add(name)


@dataclass
class _History:
    """What the scores of the runs with class events in a batch are made of.

    facts: what their class events say, one row a key, from the first epoch on that the batch speaks of
    before, before_epochs: the last rows of class_epochs and of epochs before that
    kept: per run and table, the earlier rows of the segments that change
    """

    updates: Sequence[_RunUpdate]
    facts: pa.Table = field(default_factory=FACTS.empty_table)
    before: list[pa.Table] = field(default_factory=list)
    before_epochs: list[pa.Table] = field(default_factory=list)
    kept: dict[tuple[str, str], pa.Table] = field(default_factory=dict)


class TableKeeper:
    """The one writer of a directory of result tables. Raises UserError if another process keeps them already."""

    def __init__(self, spark: SparkSession, tables_dir: Path, rules: AlertRules) -> None:
        tables_dir.mkdir(parents=True, exist_ok=True)
        self._spark, self._tables_dir, self._rules = spark, tables_dir, rules
        self._lock = (tables_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(
                f"another process keeps the tables in {tables_dir}: read them, or give another --output_dir"
            ) from None
        write_silence_rule(tables_dir, rules.run_silent.seconds if rules.run_silent else None)
        directory = tables_dir.absolute() / BATCH_DIRECTORY
        self._read = LineReader(spark, directory / "lines")
        self._queries = prepared_queries(spark, directory, rules)
        self._beside = ThreadPoolExecutor(max_workers=1)

    def close(self) -> None:
        self._beside.shutdown()
        self._lock.close()

    def update(self, lines: pa.Table, *, batch_id: int) -> list[str]:
        """Take a batch of lines (value, source) into the tables; the names of the runs that changed.

        Scores come first, then what else the events tell: readers see them while the alerts are still worked out.
        """
        events, bad = self._read(lines)
        if bad.num_rows:
            write_quarantine(self._tables_dir, batch_id, bad)
        by_run: dict[str, dict[str, pa.Table]] = {}
        for kind, of_kind in events.items():
            for run, of_run in _by(of_kind, "run").items():
                by_run.setdefault(run, {})[kind] = of_run
        updates = [self._begin(run, new) for run, new in by_run.items()]
        if updates:
            history = self._history([update for update in updates if ClassEvent.kind in update.new])
            beside = inheritable_thread_target(self._spark)(partial(self._class_epochs, history))
            classes = self._beside.submit(beside)
            self._standing(updates, events, history)
            classes.result()
            self._write(updates)
            self._reports(updates)
            self._write(updates)
            self._unlabeled(updates)
            self._alerts(updates)
            self._write(updates)
        return [update.run for update in updates]

    def _write(self, updates: Sequence[_RunUpdate]) -> None:
        """What is worked out and not yet written."""
        for update in updates:
            changed = {name: rows for name, rows in update.rows.items() if update.manifest.rows.get(name, []) != rows}
            if update.unwritten or changed:
                segments = {name: update.segments[name] for name in update.unwritten}
                update.manifest = write_run(self._tables_dir, update.manifest, segments, changed)
                update.unwritten.clear()

    def _begin(self, run: str, new: dict[str, pa.Table]) -> _RunUpdate:
        manifest = read_manifest(self._tables_dir, run) or RunManifest(run)
        if not manifest.segment_epochs:
            manifest.segment_epochs.update(SEGMENT_EPOCHS)
        if ClassEvent.kind in new and "class_epochs" not in manifest.segment_epochs:
            of_epoch = new[ClassEvent.kind].group_by(["split", "class_id"]).aggregate([]).num_rows
            manifest.segment_epochs["class_epochs"] = max(1, SEGMENT_ROWS // of_epoch)
        return _RunUpdate(manifest, new)

    def _history(self, updates: Sequence[_RunUpdate]) -> _History:
        """What the scores of these runs are made of, from the first epoch on that their class events speak of."""
        history = _History(updates)
        facts = [FACTS.empty_table()]
        for update in updates:
            new = update.new[ClassEvent.kind]
            first = pc.min(new["epoch"]).as_py()
            history.kept[update.run, "class_epochs"], redone = self._around(update, "class_epochs", first)
            history.kept[update.run, "epochs"], _ = self._around(update, "epochs", first)
            facts += [new.select(FACTS.names), redone.select(FACTS.names)]
            history.before += [self._last_before(update, "class_epochs", first, ["split", "class_id"], new)]
            history.before_epochs += [self._last_before(update, "epochs", first, ["split"], new)]
        history.facts = self._distinct(pa.concat_tables(facts))
        return history

    def _class_epochs(self, history: _History) -> None:
        if not history.updates:
            return
        scores = self._queries["class_epochs"](events=[history.facts], before=history.before).cast(SCORES)
        classes = _beside(history.facts, scores, CLASS_KEY).select(TABLES["class_epochs"].names)
        self._found(history, "class_epochs", classes)
        newest = _by(latest_epochs(pa.concat_tables([*history.before, classes])), "run")
        for update in history.updates:
            update.now["class_epochs"] = newest[update.run]

    def _found(self, history: _History, name: str, table: pa.Table) -> None:
        of_run = _by(table, "run")
        for update in history.updates:
            whole = pa.concat_tables([history.kept[update.run, name], of_run[update.run]])
            update.found(name, _by_segment(update.manifest, name, whole))

    def _distinct(self, facts: pa.Table) -> pa.Table:
        """One row a key. Repetitions are rare, so that Spark is asked about them only if there are some."""
        if facts.group_by(CLASS_KEY).aggregate([]).num_rows == facts.num_rows:
            return facts
        return self._queries["latest"](class_events=[facts])

    def _standing(self, updates: Sequence[_RunUpdate], events: dict[str, pa.Table], history: _History) -> None:
        """Where the runs stand, and the scores of their epochs."""
        known = [row for update in updates for row in update.manifest.rows.get("runs", [])]
        inputs = {
            "runs": [pa.Table.from_pylist(known, schema=TABLES["runs"])],
            "class_events": [history.facts],
            "before_epochs": history.before_epochs,
        }
        whole = unbundled(self._queries["standing"](signs=signs_of(events), **inputs), schemas_of(*STANDING_TABLES))
        self._found(history, "epochs", whole["epochs"])
        runs = _by(whole["runs"], "run")
        for update in updates:
            # A run that is known from its pseudo-labels alone has no row.
            update.rows["runs"] = runs[update.run].to_pylist() if update.run in runs else []

    def _reports(self, updates: Sequence[_RunUpdate]) -> None:
        """The tables whose rows are what the events of one kind tell."""
        inputs: dict[str, list[pa.Table]] = {name: [] for name in REPORT_TABLES}
        kept: dict[tuple[str, str], pa.Table] = {}
        told = [(update, name) for update in updates for name, kind in REPORT_TABLES.items() if kind.kind in update.new]
        if not told:
            return
        for update, name in told:
            new = update.new[REPORT_TABLES[name].kind]
            if name in BY_EPOCH:
                kept[update.run, name], before = self._around(update, name, pc.min(new["epoch"]).as_py())
            else:
                before = self._stored(update, name)
            new = new.select(TABLES[name].names)
            # The confusion matrix is that of the latest epoch: what lies before it need not be looked at.
            inputs[name] += [latest_epochs(new) if name == "confusion" else new, before]
        whole = unbundled(self._queries["reports"](**inputs), schemas_of(*REPORT_TABLES))
        found = {name: _by(table, "run") for name, table in whole.items()}
        for update, name in told:
            rows = found[name][update.run]
            if name in BY_EPOCH:
                rows = pa.concat_tables([kept[update.run, name], rows])
                update.found(name, _by_segment(update.manifest, name, rows))
            else:
                update.found(name, {WHOLE: rows})

    def _unlabeled(self, updates: Sequence[_RunUpdate]) -> None:
        """For runs that labelled, whenever their pseudo-labels change or what is known of their mistakes."""
        sources = ("pseudo_labels", "confusion", "class_epochs")
        concerned = [
            update
            for update in updates
            if any(name in update.segments for name in sources)
            and ("pseudo_labels" in update.segments or "pseudo_labels" in update.manifest.files)
        ]
        if not concerned:
            return
        tables = {name: [self._now(update, name) for update in concerned] for name in sources}
        found = _by(self._queries["unlabeled"](**tables).cast(TABLES["unlabeled"]), "run")
        for update in concerned:
            update.found("unlabeled", {WHOLE: found[update.run]})

    def _alerts(self, updates: Sequence[_RunUpdate]) -> None:
        concerned = [update for update in updates if self._may_change_alerts(update)]
        if not concerned:
            return
        names = ("class_epochs", "epochs", "steps", "unlabeled")
        tables = {name: [self._now(update, name) for update in concerned] for name in names}
        found = _by(self._queries["alerts"](**tables).cast(TABLES["alerts"]), "run")
        for update in concerned:
            update.rows["alerts"] = found[update.run].to_pylist() if update.run in found else []

    def _may_change_alerts(self, update: _RunUpdate) -> bool:
        """Step and run events come often and hardly ever matter to an alert."""
        if "class_epochs" in update.segments or "unlabeled" in update.segments:
            return True
        if StepEvent.kind not in update.new:
            return False
        lost = not pc.all(pc.is_finite(update.new[StepEvent.kind]["loss"])).as_py()
        return lost or bool(update.manifest.rows.get("alerts"))

    def _now(self, update: _RunUpdate, name: str) -> pa.Table:
        """What the table says after the update: of epochs as many of the latest as the rules need, else the last."""
        if name in update.now:
            return update.now[name]
        if name in BY_EPOCH:
            needed = epochs_needed(self._rules) if name == "epochs" else 1
            stored, written = update.manifest.files.get(name, {}), update.segments.get(name, {})
            rows = TABLES[name].empty_table()
            for segment in sorted({*stored, *written}, key=int, reverse=True):
                more = written.get(segment) or read_segments(self._tables_dir, update.manifest, name, [segment])
                rows = pa.concat_tables([more, rows])
                if len(rows["epoch"].unique()) >= needed:
                    break
            found = latest_epochs(rows) if name == "class_epochs" else rows
        else:
            found = update.segments[name][WHOLE] if name in update.segments else self._stored(update, name)
        update.now[name] = found
        return found

    def _stored(self, update: _RunUpdate, name: str) -> pa.Table:
        return read_segments(self._tables_dir, update.manifest, name, [WHOLE])

    def _around(self, update: _RunUpdate, name: str, first: int) -> tuple[pa.Table, pa.Table]:
        """Of the segments from that of epoch `first` on: the rows before it, and those from it on."""
        manifest = update.manifest
        segments = [s for s in manifest.files.get(name, {}) if int(s) >= manifest.segment_of(name, first)]
        rows = read_segments(self._tables_dir, manifest, name, segments)
        return rows.filter(pc.field("epoch") < first), rows.filter(pc.field("epoch") >= first)

    def _last_before(self, update: _RunUpdate, name: str, first: int, key: list[str], new: pa.Table) -> pa.Table:
        """The last row before epoch `first` of every key; segments are read back until each key of `new` has one."""
        manifest = update.manifest
        wanted = new.group_by(key).aggregate([]).num_rows
        rows = TABLES[name].empty_table()
        for segment in sorted(manifest.files.get(name, {}), key=int, reverse=True):
            if int(segment) > manifest.segment_of(name, first):
                continue
            more = read_segments(self._tables_dir, manifest, name, [segment]).filter(pc.field("epoch") < first)
            rows = _last_rows(pa.concat_tables([more, rows]), key)
            if rows.num_rows >= wanted:
                break
        return rows


def _beside(table: pa.Table, more: pa.Table, key: list[str]) -> pa.Table:
    """The rows of two tables that have the same keys, side by side, in the order of the keys."""
    ordered, others = (one.sort_by([(name, "ascending") for name in key]) for one in (table, more))
    assert ordered.select(key).equals(others.select(key))
    for name in others.column_names:
        if name not in key:
            ordered = ordered.append_column(name, others[name])
    return ordered


def _by(table: pa.Table, column: str) -> dict[str, pa.Table]:
    """The table's rows by the value of a column."""
    runs = pc.run_end_encode(table[column].combine_chunks())
    if len(runs.values) > len(runs.values.unique()):
        return _by(table.sort_by(column), column)
    starts = [0, *runs.run_ends.to_pylist()]
    values = zip(runs.values.to_pylist(), starts[:-1], starts[1:], strict=True)
    return {value: table.slice(start, end - start) for value, start, end in values}


def _by_segment(manifest: RunManifest, name: str, table: pa.Table) -> dict[str, pa.Table]:
    segments = sorted({manifest.segment_of(name, epoch) for epoch in table["epoch"].unique().to_pylist()})
    size = manifest.segment_epochs[name]
    return {
        str(s): table.filter((pc.field("epoch") >= s * size) & (pc.field("epoch") < (s + 1) * size)) for s in segments
    }


def _last_rows(table: pa.Table, key: list[str]) -> pa.Table:
    """Of each key the row of the highest epoch; there is one row a key and epoch."""
    last = table.group_by(key).aggregate([("epoch", "max")]).rename_columns([*key, "epoch"])
    return table.join(last, keys=[*key, "epoch"], join_type="inner").select(table.column_names)
