"""Keeps the result tables up to date with the metric events of one micro-batch after another.

Only runs that a batch speaks of are touched, and of these only the segments from
the first epoch that it changes; the state is the tables themselves. Each event
goes into the tables once however often it comes, because the queries count
repetitions once: so a batch that is processed again, after a kill at whatever
moment, leaves the tables as they were.
"""

import fcntl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from conf.alerts import AlertRules
from conf.errors import UserError
from streaming import queries
from streaming.alerts import alerts, epochs_needed
from streaming.events import ClassEvent, ConfusionEvent, Event, PseudoLabelEvent, StepEvent
from streaming.lines import LINE, REASON, SOURCE, parsed_events
from streaming.prepared import PreparedQuery
from streaming.result_tables import (
    TABLES,
    RunManifest,
    latest_epochs,
    read_manifest,
    read_segments,
    write_quarantine,
    write_run,
    write_silence_rule,
)
from streaming.unlabeled import pseudo_labels, unlabeled

SEGMENT_ROWS = 20_000
"""A segment of class_epochs has as many epochs as give about so many rows: what an update rewrites is bounded."""
SEGMENT_EPOCHS = {"epochs": 1000, "steps": 100}
"""Epochs of a segment of the tables that have a few rows an epoch, however many classes there are."""
BATCH_DIRECTORY = "batch"
"""Where the inputs of the queries lie, those of one micro-batch after another."""
WHOLE = "all"
"""The one segment of a table that is not kept by epochs."""
_SIGN_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("kind", "run", "phase", "state", "configuration", "message")]
    + [(name, pa.int64()) for name in ("attempt", "epoch", "num_epochs")]
    + [("emitted_at", pa.float64())]
)
"""What queries.run_signs looks at."""


@dataclass
class _RunUpdate:
    """One run in a batch.

    new: its events by kind
    segments: what will be written, per table and segment; rows: per table of a few rows
    now: per table, rows as they are after the update; of tables that grow with the epochs, the latest
    """

    manifest: RunManifest
    new: dict[str, pa.Table]
    segments: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    now: dict[str, pa.Table] = field(default_factory=dict)

    @property
    def run(self) -> str:
        return self.manifest.run


class TableKeeper:
    """The one writer of a directory of result tables. Raises UserError if another process keeps them already."""

    def __init__(self, spark: SparkSession, tables_dir: Path, rules: AlertRules) -> None:
        tables_dir.mkdir(parents=True, exist_ok=True)
        self._tables_dir, self._rules = tables_dir, rules
        self._lock = (tables_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(
                f"another process keeps the tables in {tables_dir}: read them, or give another --output_dir"
            ) from None
        write_silence_rule(tables_dir, rules.run_silent.seconds if rules.run_silent else None)
        self._queries = _prepared_queries(spark, tables_dir.absolute() / BATCH_DIRECTORY, rules)

    def close(self) -> None:
        self._lock.close()

    def update(self, lines: pa.Table, *, batch_id: int) -> list[str]:
        """Take the lines of a batch (value, source) into the tables; the names of the runs that changed."""
        parsed = self._queries["parsed"](lines=[lines])
        is_bad = pc.is_valid(parsed[REASON])
        bad = parsed.filter(is_bad).select([REASON, LINE, SOURCE]).rename_columns(TABLES["quarantine"].names)
        if bad.num_rows:
            write_quarantine(self._tables_dir, batch_id, bad)
        events = parsed.filter(pc.invert(is_bad)).drop_columns([REASON, LINE, SOURCE])
        updates = [self._begin(run, of_run) for run, of_run in _by(events, "run").items()]
        if updates:
            self._class_epochs([update for update in updates if ClassEvent.kind in update.new])
            self._small("confusion", ConfusionEvent, updates)
            self._small("pseudo_labels", PseudoLabelEvent, updates)
            self._steps([update for update in updates if StepEvent.kind in update.new])
            self._unlabeled(updates)
            self._runs(updates, events)
            self._alerts(updates)
        for update in updates:
            write_run(self._tables_dir, update.manifest, update.segments, update.rows)
        return [update.run for update in updates]

    def _begin(self, run: str, events: pa.Table) -> _RunUpdate:
        new = _by(events, "kind")
        manifest = read_manifest(self._tables_dir, run) or RunManifest(run)
        if not manifest.segment_epochs:
            manifest.segment_epochs.update(SEGMENT_EPOCHS)
        if ClassEvent.kind in new and "class_epochs" not in manifest.segment_epochs:
            of_epoch = new[ClassEvent.kind].group_by(["split", "class_id"]).aggregate([]).num_rows
            manifest.segment_epochs["class_epochs"] = max(1, SEGMENT_ROWS // of_epoch)
        return _RunUpdate(manifest, new)

    def _class_epochs(self, updates: Sequence[_RunUpdate]) -> None:
        """class_epochs and epochs, from the first epoch on that a run's events speak of."""
        if not updates:
            return
        facts, history, history_of_epochs = [], [], []
        fields = queries.own_fields(ClassEvent)
        kept: dict[tuple[str, str], pa.Table] = {}
        for update in updates:
            new = update.new[ClassEvent.kind]
            first = pc.min(new["epoch"]).as_py()
            kept[update.run, "class_epochs"], redone = self._around(update, "class_epochs", first)
            kept[update.run, "epochs"], _ = self._around(update, "epochs", first)
            facts += [new.select(fields), redone.select(fields)]
            update.now["class_epochs"] = self._last_before(update, "class_epochs", first, ["split", "class_id"], new)
            history.append(update.now["class_epochs"])
            history_of_epochs.append(self._last_before(update, "epochs", first, ["split"], new))
        classes = self._queries["class_epochs"](events=facts, before=history).cast(TABLES["class_epochs"])
        summaries = self._queries["epochs"](classes=[classes], before=history_of_epochs)
        found = {"class_epochs": _by(classes, "run"), "epochs": _by(summaries.cast(TABLES["epochs"]), "run")}
        for update in updates:
            for name, tables in found.items():
                whole = pa.concat_tables([kept[update.run, name], tables[update.run]])
                update.segments[name] = _by_segment(update.manifest, name, whole)
            known = [update.now["class_epochs"], found["class_epochs"][update.run]]
            update.now["class_epochs"] = latest_epochs(pa.concat_tables(known))

    def _steps(self, updates: Sequence[_RunUpdate]) -> None:
        if not updates:
            return
        kept, parts = {}, []
        names = TABLES["steps"].names
        for update in updates:
            new = update.new[StepEvent.kind]
            kept[update.run], redone = self._around(update, "steps", pc.min(new["epoch"]).as_py())
            parts += [new.select(names), redone]
        found = _by(self._queries["steps"](reports=parts).cast(TABLES["steps"]), "run")
        for update in updates:
            whole = pa.concat_tables([kept[update.run], found[update.run]])
            update.segments["steps"] = _by_segment(update.manifest, "steps", whole)

    def _small(self, name: str, kind: type[Event], updates: Sequence[_RunUpdate]) -> None:
        """A table that stays small: its stored rows and the new events through the query."""
        parts = []
        spoken_of = [update for update in updates if kind.kind in update.new]
        for update in spoken_of:
            parts += [update.new[kind.kind].select(TABLES[name].names), self._stored(update, name)]
        if not spoken_of:
            return
        found = _by(self._queries[name](reports=parts).cast(TABLES[name]), "run")
        for update in spoken_of:
            update.segments[name] = {WHOLE: found[update.run]}

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
            update.segments["unlabeled"] = {WHOLE: found[update.run]}

    def _runs(self, updates: Sequence[_RunUpdate], events: pa.Table) -> None:
        known = pa.Table.from_pylist(
            [row for update in updates for row in update.manifest.rows.get("runs", [])], schema=TABLES["runs"]
        )
        found = _by(self._queries["runs"](events=[events], known=[known]).cast(TABLES["runs"]), "run")
        for update in updates:
            # A run that is known from its pseudo-labels alone has no row.
            update.rows["runs"] = found[update.run].to_pylist() if update.run in found else []

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
        if name in ("class_epochs", "epochs", "steps"):
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


def _prepared_queries(spark: SparkSession, directory: Path, rules: AlertRules) -> dict[str, PreparedQuery]:
    """The queries of streaming/queries.py and its like over what a batch brings and what is known already."""

    def prepared(name: str, query: Callable[..., DataFrame], **inputs: pa.Schema) -> PreparedQuery:
        return PreparedQuery(spark, query, inputs, directory=directory / name)

    def of(name: str, fields: Sequence[str] | None = None) -> pa.Schema:
        return pa.schema([TABLES[name].field(field) for field in fields or TABLES[name].names])

    def class_epochs(events: DataFrame, before: DataFrame) -> DataFrame:
        return queries.class_epochs(queries.latest_class_events(events), before)

    def runs(events: DataFrame, known: DataFrame) -> DataFrame:
        return queries.runs(queries.run_signs(events).unionByName(known))

    def found_alerts(class_epochs: DataFrame, epochs: DataFrame, steps: DataFrame, unlabeled: DataFrame) -> DataFrame:
        return alerts(class_epochs, epochs, steps, unlabeled, rules)

    def of_unlabeled(pseudo_labels: DataFrame, confusion: DataFrame, class_epochs: DataFrame) -> DataFrame:
        return unlabeled(pseudo_labels, confusion, class_epochs)

    classes, summaries = of("class_epochs"), of("epochs")
    return {
        "parsed": prepared("parsed", parsed_events, lines=pa.schema([(LINE, pa.string()), (SOURCE, pa.string())])),
        "class_epochs": prepared(
            "class_epochs", class_epochs, events=of("class_epochs", queries.own_fields(ClassEvent)), before=classes
        ),
        "epochs": prepared("epochs", queries.epochs, classes=classes, before=summaries),
        "confusion": prepared("confusion", queries.confusion, reports=of("confusion")),
        "steps": prepared("steps", queries.steps, reports=of("steps")),
        "pseudo_labels": prepared("pseudo_labels", pseudo_labels, reports=of("pseudo_labels")),
        "unlabeled": prepared(
            "unlabeled", of_unlabeled,
            pseudo_labels=of("pseudo_labels"), confusion=of("confusion"), class_epochs=classes,
        ),
        "runs": prepared("runs", runs, events=_SIGN_SCHEMA, known=of("runs")),
        "alerts": prepared(
            "alerts", found_alerts,
            class_epochs=classes, epochs=summaries, steps=of("steps"), unlabeled=of("unlabeled"),
        ),
    }  # fmt: skip


def _by(table: pa.Table, column: str) -> dict[str, pa.Table]:
    """The table's rows by the value of a column."""
    values = table[column].unique().to_pylist()
    if len(values) == 1:
        return {values[0]: table}
    ordered = table.sort_by(column)
    counts = ordered[column].combine_chunks().value_counts()
    parts, start = {}, 0
    for value, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        parts[value] = ordered.slice(start, count)
        start += count
    return parts


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
