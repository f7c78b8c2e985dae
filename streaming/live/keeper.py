"""Keeps the result tables up to date with the metric events of one micro-batch after another.

Only runs with events in the batch are updated, and of these only the segments from the first changed epoch on; the
state is the tables themselves. The queries deduplicate events, so each event counts once however often it arrives: a
batch that is processed again, after a kill at any moment, leaves the tables unchanged.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from longtail.conf.base.locations import Location
from longtail.streaming.alerts.finding import find_alerts, num_epochs_needed
from longtail.streaming.alerts.rule import AlertTables
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.derived import DERIVED_TABLES
from longtail.streaming.event_files.reading import EventPiece, checked_together
from longtail.streaming.events.schema import ClassEvent, StepEvent
from longtail.streaming.kernels import newest, scores
from longtail.streaming.kernels.runs import run_rows
from longtail.streaming.live.arrow_rows import split_by
from longtail.streaming.live.bulkhead import DATA_ERRORS, apply_in_parts
from longtail.streaming.live.followed_runs import FollowedRuns
from longtail.streaming.live.line_reader import LineReader
from longtail.streaming.live.quarantine import Quarantine
from longtail.streaming.live.run_update import ClassHistory, RunUpdate, begin_update, read_class_history
from longtail.streaming.live.segments import Segments
from longtail.streaming.parsing.arrow import together
from longtail.streaming.parsing.lines import MAX_LINE_KEPT
from longtail.streaming.queries import EVENT_QUERIES
from longtail.streaming.tables.lock import lock_tables
from longtail.streaming.tables.manifest import DamagedTables, check_format_versions
from longtail.streaming.tables.reading import latest_epochs
from longtail.streaming.tables.schemas import BY_EPOCH, TABLES
from longtail.streaming.tables.writing import write_liveness

BATCH_DIRECTORY = "batch"
"""Directory of the files that pass lines of a micro-batch to Spark."""
FEW_RUNS = 8
WRITERS = 8
_ALERT_SOURCES = tuple(AlertTables.__dataclass_fields__)


class TableKeeper:
    """The only writer of a directory of result tables.

    spark: None if it is not started; then what needs its checks raises SparkNeeded, and leaves the tables as they were
    runs_dir: of the runs, whose trash and descriptions the tables follow, whose events are read again if tables are
        damaged, and whose heartbeats tell readers which are lost; None if it is not on this machine

    Raises UserError if another process is writing them, or if a newer version of Longtail has written them.
    """

    def __init__(
        self, spark: SparkSession | None, tables_dir: Path, rules: AlertRules, *, runs_dir: Location | None = None
    ) -> None:
        check_format_versions(tables_dir)
        self.tables_dir, self._rules, self._num_epochs = tables_dir, rules, num_epochs_needed(rules)
        self._lock = lock_tables(tables_dir)
        try:
            self.runs = FollowedRuns(tables_dir, runs_dir)
            silent_seconds = rules.run_silent.seconds if rules.run_silent else None
            write_liveness(tables_dir, silent_seconds=silent_seconds, runs_dir=runs_dir)
            self._quarantine = Quarantine(tables_dir)
            self._segments = Segments(tables_dir)
            self._read = LineReader(spark, tables_dir.absolute() / BATCH_DIRECTORY / "lines")
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Allow other processes to write the tables."""
        self._lock.close()

    def update(self, lines: pa.Table, pieces: Sequence[EventPiece] = ()) -> list[str]:
        """Update the tables by a batch of lines (value, source) and of files; the names of the runs that changed.

        Lines that are no events, and those that stop the update, go to the quarantine.
        """
        changed: dict[str, None] = {}

        def apply(part: pa.Table, columns: Mapping[str, pa.Table] = MappingProxyType({})) -> None:
            events, bad_lines = self._read(part)
            events = together([events, columns])
            self._quarantine.add(bad_lines)
            changed.update(dict.fromkeys(self._update_intact(self.runs.without_deleted(events))))

        if pieces:
            try:
                events, others = checked_together(pieces)
                apply(pa.concat_tables([lines, others]), events)
                return list(changed)
            except OSError:  # some of the others are subclasses
                raise
            except DATA_ERRORS:
                lines = pa.concat_tables([lines, *(piece.as_lines() for piece in pieces)])
        for part, error in apply_in_parts(lines, apply, self._read.check):
            self._quarantine.add(_bad_lines(part, f"stops the update of the tables: {error}"))
        return list(changed)

    def follow(self) -> list[str]:
        """Bring the tables up to date with what users did with runs or files; the names of the runs that changed."""
        changed = self.runs.follow()
        for run in self.runs.damaged():
            self._rebuild(run)
            changed.append(run)
        return list(dict.fromkeys(changed))

    def _update_intact(self, events: dict[str, pa.Table]) -> list[str]:
        """As _update; tables that turn out to be damaged are written again before."""
        rebuilt: set[str] = set()
        while True:
            try:
                return [*self._update(events), *rebuilt]
            except DamagedTables as error:
                if error.run in rebuilt:
                    raise
                self._rebuild(error.run)
                rebuilt.add(error.run)

    def _rebuild(self, run: str) -> None:
        """Write the tables of a run again, from all its events that are still there."""

        def apply(part: pa.Table) -> None:
            of_run = {kind: split_by(table, "run").get(run) for kind, table in self._read(part)[0].items()}
            self._update(self.runs.without_deleted({kind: table for kind, table in of_run.items() if table}))

        with self.runs.rebuilding(run) as batches:
            for lines in batches:
                apply_in_parts(lines, apply, self._read.check)  # what it refuses has been quarantined when it came

    def _update(self, events: dict[str, pa.Table]) -> list[str]:
        """Update the tables by these events, by kind; the names of the runs that changed. No effect if it raises.

        Of few runs, scores are written first, then the other tables and the alerts, so that readers see the scores
        early; of many, which have waited, all at once, since each writing waits for the disk.
        """
        by_run: dict[str, dict[str, pa.Table]] = {}
        for kind, of_kind in events.items():
            for run, of_run in split_by(of_kind, "run").items():
                by_run.setdefault(run, {})[kind] = of_run
        updates = [
            begin_update(self.tables_dir, run, of_run, num_epochs=self._num_epochs, stored_segments=self._segments)
            for run, of_run in by_run.items()
        ]
        if not updates:
            return []
        try:
            self._update_scores(updates, events)
            if len(updates) <= FEW_RUNS:
                _write(updates)
            self._update_event_tables(updates)
            self._update_derived_tables(updates)
            self._update_alerts(updates)
            _write(updates)
        except Exception:
            for update in updates:
                update.undo()
            raise
        for update in updates:
            update.finish()
        self.runs.remember(by_run)
        return list(by_run)

    def _update_scores(self, updates: Sequence[RunUpdate], events: dict[str, pa.Table]) -> None:
        known = [row for update in updates for row in update.manifest.rows.get("runs", [])]
        states = run_rows(events, known)
        for update in updates:
            # A run that only has events of its checkpoint has no row.
            update.rows["runs"] = [states[update.run]] if update.run in states else []
        with_classes = [update for update in updates if ClassEvent.kind in update.events]
        if history := read_class_history(with_classes):
            self._update_classes_and_epochs(history)

    def _update_classes_and_epochs(self, history: ClassHistory) -> None:
        classes = scores.class_epochs_table(newest.latest_class_events_table(history.class_events), history.before)
        _change(history, "class_epochs", classes)
        _change(history, "epochs", scores.epochs_table(classes, history.before_epochs))
        last = split_by(latest_epochs(classes), "run")
        for update in history.updates:
            rows = last[update.run]
            # Of a split that these epochs lack, the latest epoch is read when it is needed.
            if set(rows["split"].unique().to_pylist()) == set(update.manifest.splits):
                update.current["class_epochs"] = rows
            update.note_latest_epochs()

    def _update_event_tables(self, updates: Sequence[RunUpdate]) -> None:
        """Update the tables whose rows are the events of one kind."""
        for name, (kind, _) in EVENT_QUERIES.items():
            changed: list[tuple[RunUpdate, int, pa.Table]] = []
            reports = [TABLES[name].empty_table()]
            for update in updates:
                if kind.kind not in update.events:
                    continue
                new = update.events[kind.kind].select(TABLES[name].names)
                if name in BY_EPOCH:
                    new = update.not_begun_again(name, new)
                    if not new.num_rows:
                        continue
                first, kept = 0, TABLES[name].empty_table()
                if name in BY_EPOCH:
                    first = pc.min(new["epoch"]).as_py()
                    kept, stored = update.split_at_epoch(name, first)
                else:
                    stored = update.stored(name)
                changed.append((update, first, kept))
                reports += [new, stored]
            by_run = split_by(newest.EVENT_KERNELS[name](pa.concat_tables(reports)), "run")
            for update, first, kept in changed:
                update.change(name, pa.concat_tables([kept, by_run[update.run]]), first=first)

    def _update_derived_tables(self, updates: Sequence[RunUpdate]) -> None:
        for name, table in DERIVED_TABLES.items():
            for update in updates:
                if update.has_table(table.sources[0]) and any(source in update.segments for source in table.sources):
                    update.change(name, table.query(*map(update.rows_after_update, table.sources)))

    def _update_alerts(self, updates: Sequence[RunUpdate]) -> None:
        for update in updates:
            if _may_change_alerts(update):
                tables = AlertTables(*map(update.rows_after_update, _ALERT_SOURCES))
                update.rows["alerts"] = find_alerts(update.run, tables, self._rules)


def _write(updates: Sequence[RunUpdate]) -> None:
    """Write the changes of all runs, several at the same time: most of it is waiting for the disk."""
    if len(updates) == 1:
        updates[0].write()
        return
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(RunUpdate.write, updates):
            pass


def _bad_lines(lines: pa.Table, reason: str) -> pa.Table:
    """Lines (value, source) as rows for the quarantine."""
    # A line may hold any bytes.
    texts = [line.decode("utf-8", "replace")[:MAX_LINE_KEPT] for line in lines["value"].cast(pa.binary()).to_pylist()]
    return pa.table({"reason": pa.repeat(reason, lines.num_rows), "line": texts, "source": lines["source"]})


def _change(history: ClassHistory, name: str, table: pa.Table) -> None:
    """Replace the segments of a table from the first changed epoch on."""
    by_run = split_by(table, "run")
    for update in history.updates:
        rows = pa.concat_tables([history.kept[update.run, name], by_run[update.run]])
        update.change(name, rows, first=history.first[update.run])


def _may_change_alerts(update: RunUpdate) -> bool:
    """Whether alerts may change. Step and run events are frequent and hardly ever matter to an alert."""
    if any(name in update.segments for name in ("class_epochs", "predictions", *DERIVED_TABLES)):
        return True
    if StepEvent.kind not in update.events:
        return False
    has_bad_loss = not pc.all(pc.is_finite(update.events[StepEvent.kind]["loss"])).as_py()
    return has_bad_loss or bool(update.manifest.rows.get("alerts"))
