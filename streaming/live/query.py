"""The live query: turns metric events into result tables that are always up to date.

    query = start_live_query(spark, events_dir, tables_dir=..., trigger="1 second")
    table = read_result_table(tables_dir, "epochs")      # streaming/tables/reading.py, in this or any other process

Each micro-batch of event files, or of lines, goes to the keeper of the tables (streaming/live/keeper.py), which updates
them. The checkpoint of the query is stored beside the tables: after a stop or a kill a new query
continues there, and events that arrive twice count once.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.listener import StreamingQueryProgress

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, spark_uri
from longtail.conf.base.shown_text import one_line
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.event_files.source import STATE_SETTING, event_file_names, names_of_batch
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.archiver import Archiver
from longtail.streaming.live.batches import update_by_files, update_by_lines
from longtail.streaming.live.checkpoint import FILES, claim_checkpoint
from longtail.streaming.live.disk import named_if_full
from longtail.streaming.live.keeper import TableKeeper
from longtail.streaming.live.starting import PatientQuery, start_to_the_end
from longtail.streaming.live.trigger import with_trigger
from longtail.streaming.tables.manifest import DamagedTables, list_runs
from longtail.streaming.tables.progress import FEW_FILES, end_progress, write_progress
from longtail.streaming.tables.waiting_runs import end_waiting

CHECKPOINT_DIRECTORY = "checkpoint"
TRIES_AFTER_DELETION = 3
"""A batch is repeated so often if files vanish under it."""
FOLLOW_SECONDS = 1.0
"""Interval at which a query without new events looks what users did with runs."""

OWN_SETTINGS = {
    # Event batches are small: one task is faster than starting many, and a fixed plan faster than an adaptive one.
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
    # The checkpoint is on this machine, where Spark's default starts some 30 processes (readlink, chmod) per batch.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    # The files of a batch are known: looking at each is not worth a separate task.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000000",
    # Few Arrow batches, none so large that the JVM has to move it.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
}


def repeat(action: Callable[[], None], stopping: Event) -> None:
    """Call the action every FOLLOW_SECONDS until the event is set. An error is printed once, and it is tried again."""
    printed = ""
    while not stopping.wait(FOLLOW_SECONDS):
        try:
            action()
            printed = ""
        except Exception as error:  # noqa: BLE001 - a full disk, or anything else that may pass
            message = one_line(f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error))
            if message != printed and not stopping.is_set():
                print(f"longtail: {message}", file=sys.stderr, flush=True)
            printed = message


def again_if_deleted(action: Callable[[], None]) -> None:
    """Call an action that may be repeated; again if it fails because somebody deletes files while they are written."""
    for tries_left in reversed(range(TRIES_AFTER_DELETION + 1)):
        try:
            action()
            break
        except (FileNotFoundError, DamagedTables):
            if not tries_left:
                raise


@contextmanager
def held(in_batch: Lock, stopping: Event) -> Iterator[None]:
    """Hold the lock in the block. Raises InterruptedError if the query is stopped while this waits."""
    while not in_batch.acquire(timeout=0.1):
        if stopping.is_set():
            raise InterruptedError("the query is being stopped")
    try:
        yield
    finally:
        in_batch.release()


class LiveQuery:
    """The running query, with Spark's method names; when it ends, other processes may write its tables."""

    def __init__(
        self, query: PatientQuery, keeper: TableKeeper, in_batch: Lock, stopping: Event, archiver: Archiver | None
    ) -> None:
        self._query, self._keeper, self._in_batch, self._stopping = query, keeper, in_batch, stopping
        self._archiver = archiver
        if archiver:
            Thread(target=repeat, args=(self._archive, stopping), daemon=True).start()

    @property
    def isActive(self) -> bool:
        """Whether the query runs."""
        return self._query.isActive

    @property
    def lastProgress(self) -> StreamingQueryProgress | None:
        """Spark's report of the last micro-batch, None before the first."""
        return self._query.lastProgress

    def exception(self) -> StreamingQueryException | None:
        """The error that ended the query, None if there is none."""
        return self._query.exception()

    def processAllAvailable(self) -> None:
        """Block until all events that are there now are processed."""
        self._query.processAllAvailable()

    def awaitTermination(self) -> None:
        """Block until the query ends. Raises the error that ended it."""
        try:
            with named_if_full(self._keeper.tables_dir):
                self._query.awaitTermination()
        finally:
            if not self._query.isActive:
                self._archive()
                self._close()

    def stop(self) -> None:
        """End the query after its current batch: interrupting one would print its stack trace to the terminal."""
        with self._in_batch:
            self._stopping.set()
            self._query.stop()
        self._close()

    def _archive(self) -> None:
        # Not what waits to be read when the query starts: it would be looked for in the archive.
        if self._archiver and self.lastProgress:
            self._archiver.look()

    def _close(self) -> None:
        self._stopping.set()
        with self._in_batch:  # what follows the runs
            self._keeper.close()


def start_live_query(
    spark: SparkSession,
    events: Location | Callable[[SparkSession], DataFrame],
    *,
    tables_dir: Path,
    trigger: str | None,
    source: str = FILES,
    new_checkpoint: bool = False,
    rules: AlertRules | None = None,
    runs_dir: Location | None = None,
    on_update: Callable[[list[str]], None] = lambda runs: None,
) -> LiveQuery:
    """Start the query.

    events: directory of the event files; or creates in the query's own session a streaming DataFrame of lines (value,
        source)
    trigger: interval between batches as Spark writes it ("1 second"); None: process what exists and end
    source: what the lines are from (streaming/live/checkpoint.py)
    new_checkpoint: forget how far the source was read
    rules: alert rules; None: those of conf/alerts.yaml
    runs_dir: directory of the runs, for what users do with them (streaming/runs/), and which of them are lost; None if
    it is not on this machine
    on_update: called with all runs at the start, and after each batch with the names of the runs whose tables changed;
    called again for a batch that was interrupted by a kill

    Raises UserError if another process is writing these tables, if a newer version of Longtail has written them, or if
    they were kept from another source.
    """
    own_session, checkpoint = spark.newSession(), tables_dir.absolute() / CHECKPOINT_DIRECTORY
    for key, value in {**OWN_SETTINGS, STATE_SETTING: str(checkpoint)}.items():
        own_session.conf.set(key, value)
    with named_if_full(tables_dir):
        keeper = TableKeeper(own_session, tables_dir, rules or read_alert_rules(), runs_dir=runs_dir)
    in_batch, stopping = Lock(), Event()

    def update(batch: DataFrame, batch_id: int) -> None:
        # First what users did: a deleted run does not come back with a batch that was on its way.
        on_update(keeper.follow())
        for changed in (
            update_by_lines(keeper, batch)
            if callable(events)
            else update_by_files(keeper, events, names_of_batch(checkpoint, batch_id))
        ):
            on_update(changed)

    def process(batch: DataFrame, batch_id: int) -> None:
        with held(in_batch, stopping):
            again_if_deleted(lambda: update(batch, batch_id))

    def follow() -> None:
        with in_batch:
            if not stopping.is_set() and (changed := keeper.follow()):
                on_update(changed)

    try:
        with named_if_full(tables_dir):
            claim_checkpoint(checkpoint, source, new=new_checkpoint)
            _note_waiting(None if callable(events) else events, tables_dir, checkpoint)
            on_update(list(dict.fromkeys([*list_runs(tables_dir), *keeper.follow()])))
        writer = (
            (events(own_session) if callable(events) else event_file_names(own_session, events))
            .writeStream.option("checkpointLocation", spark_uri(checkpoint))
            .queryName("longtail live view")
            .foreachBatch(process)
        )
        start = with_trigger(writer, trigger).start
        with named_if_full(tables_dir):
            query = PatientQuery(start) if trigger is not None else start_to_the_end(start, checkpoint)
    except BaseException:
        keeper.close()
        raise
    if runs_dir is not None and trigger is not None:
        Thread(target=repeat, args=(follow, stopping), daemon=True).start()
    archiver = Archiver(runs_dir / EVENTS_DIRECTORY) if isinstance(runs_dir, Path) and source == FILES else None
    return LiveQuery(query, keeper, in_batch, stopping, archiver)


def _note_waiting(events_dir: Location | None, tables_dir: Path, checkpoint: Path) -> None:
    """Let readers of the tables know that many event files wait to be read."""
    end_progress(tables_dir)
    end_waiting(tables_dir)
    if events_dir is not None and (num_files := len(NewFiles(events_dir, checkpoint).look())) > FEW_FILES:
        write_progress(tables_dir, 0, num_files)
