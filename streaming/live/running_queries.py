"""Runs the streaming queries of a user's own (streaming/live/own_queries.py) beside the live query.

Each has a checkpoint of its own, and starts anew when the file or the source has changed. When runs are deleted or
restored, it starts again without the events of those that are deleted; a table then anew, since the sums of before hold
them. Rows of an aggregation replace those of before, others are added (streaming/tables/query_rows.py).

A query that fails ends alone, with one line; the live query and its tables go on.
"""

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock, Thread

import pyarrow.parquet as pq
from pyspark.errors import AnalysisException, StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import spark_uri
from longtail.conf.base.shown_text import one_line
from longtail.conf.base.user_code import call_code
from longtail.streaming.live.checkpoint import claim_checkpoint, is_of_source
from longtail.streaming.live.event_stream import event_stream
from longtail.streaming.live.own_alerts import Alerts, OwnAlerts
from longtail.streaming.live.own_queries import OwnQuery
from longtail.streaming.live.query import CHECKPOINT_DIRECTORY, FOLLOW_SECONDS, OWN_SETTINGS
from longtail.streaming.live.starting import PatientQuery, start_to_the_end
from longtail.streaming.live.trigger import with_trigger
from longtail.streaming.tables.deletions import read_deletion_times
from longtail.streaming.tables.query_rows import ALERTS, TABLE, query_directory, query_files

Start = Callable[[Mapping[str, float]], PatientQuery]
"""Starts a query without the events of runs from before these times of their deletion."""


class RunningQuery:
    """A query that runs, with Spark's method names; it follows the deletions of runs unless it ends by itself."""

    def __init__(self, query: OwnQuery, start: Start, tables_dir: Path) -> None:
        self._query, self._start, self._tables_dir = query, start, tables_dir
        self._lock, self._is_stopped = Lock(), False
        self._deleted_at = read_deletion_times(tables_dir)
        self._running = start(self._deleted_at)

    @property
    def isActive(self) -> bool:
        """Whether the query runs."""
        return self._running.isActive

    def stop(self) -> None:
        """End the query."""
        with self._lock:
            self._is_stopped = True
            self._running.stop()

    def failure(self) -> str | None:
        """Why the query has ended, in one line; None if it has not failed."""
        error = self._running.exception()
        return None if error is None else one_line(f"--query {self._query.label} has failed: {_cause(error)}")

    def watch(self, *, follow: bool) -> None:
        """Return when the query has ended, and say so if it has failed; follow: the deletions of runs, meanwhile."""
        try:
            while not self._running.awaitTermination(FOLLOW_SECONDS):
                if follow and (deleted_at := read_deletion_times(self._tables_dir)) != self._deleted_at:
                    self._start_again(deleted_at)
        except UserError as error:
            print(f"{one_line(str(error))}; the tables go on", file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - Ctrl-C and the end of the JVM reach the job itself
            if failure := self.failure():
                print(f"{failure}; the tables go on", file=sys.stderr, flush=True)

    def _start_again(self, deleted_at: Mapping[str, float]) -> None:
        with self._lock:
            if not self._is_stopped:
                self._running.stop()
                self._deleted_at = dict(deleted_at)
                self._running = self._start(deleted_at)


def start_queries(
    spark: SparkSession,
    queries: Sequence[OwnQuery],
    read_lines: Callable[[SparkSession, Path], DataFrame],
    *,
    tables_dir: Path,
    source: str,
    trigger: str | None,
    on_alerts: Callable[[Alerts], None],
) -> list[RunningQuery]:
    """Start the queries; those that fail later say so themselves.

    read_lines: creates the streaming DataFrame of lines (value, source) of a query with this checkpoint
    source: what the lines are from (streaming/live/checkpoint.py)
    on_alerts: is called with the new alerts of each batch, rows of the table `alerts`; with the same again after a kill

    Raises UserError if a function fails or its result is not a streaming DataFrame of the columns that it needs.
    """

    def start(query: OwnQuery, deleted_at: Mapping[str, float]) -> PatientQuery:
        directory = query_directory(tables_dir, query.name, query.kind)
        _claim(directory, _owner(query, source, deleted_at))
        session = spark.newSession()
        for key, value in OWN_SETTINGS.items():
            session.conf.set(key, value)
        checkpoint = directory / CHECKPOINT_DIRECTORY
        events = _of_present_runs(event_stream(read_lines(session, checkpoint)), deleted_at)
        begin = partial(_start, query, _result(query, events), tables_dir, trigger, on_alerts)
        return PatientQuery(begin) if trigger is not None else start_to_the_end(begin, checkpoint)

    started = [RunningQuery(query, partial(start, query), tables_dir) for query in queries]
    for running in started:
        Thread(target=running.watch, kwargs={"follow": trigger is not None}, daemon=True).start()
    return started


def _owner(query: OwnQuery, source: str, deleted_at: Mapping[str, float]) -> str:
    """What rows and checkpoint of a query belong to. An alert is known by when it was found: its query goes on."""
    owner = f"{source}, by {query.name}.py of version {query.version}"
    if query.kind == ALERTS or not deleted_at:
        return owner
    deletions = hashlib.sha256(json.dumps(deleted_at, sort_keys=True).encode()).hexdigest()[:8]
    return f"{owner}, after the deletions {deletions}"


def _of_present_runs(events: DataFrame, deleted_at: Mapping[str, float]) -> DataFrame:
    """As is_of_present_run (streaming/tables/deletions.py)."""
    if not deleted_at:
        return events
    times = F.create_map(*(F.lit(value) for pair in deleted_at.items() for value in pair))
    return events.where(F.col("emitted_at") > F.coalesce(F.try_element_at(times, "run"), F.lit(-math.inf)))


def _claim(directory: Path, owner: str) -> None:
    """Keep rows and checkpoint of the same file and source; remove those of another."""
    checkpoint = directory / CHECKPOINT_DIRECTORY
    anew = not is_of_source(checkpoint, owner)
    claim_checkpoint(checkpoint, owner, new=anew)
    if anew:
        for file in query_files(directory):
            file.unlink()


def _result(query: OwnQuery, events: DataFrame) -> DataFrame:
    frame = call_code(query.function, events, name=query.label, option="--query")
    if not isinstance(frame, DataFrame) or not frame.isStreaming:
        kind = "a DataFrame that is no stream" if isinstance(frame, DataFrame) else type(frame).__name__
        raise UserError(f"--query {query.label} returns {kind}: a streaming DataFrame made of `events` was expected")
    if query.kind == ALERTS and (missing := {"run", "message"} - set(frame.columns)):
        raise UserError(f"--query {query.label} returns no column {' and no '.join(sorted(missing))}")
    return frame


def _start(
    query: OwnQuery, frame: DataFrame, tables_dir: Path, trigger: str | None, on_alerts: Callable[[Alerts], None]
) -> StreamingQuery:
    directory = query_directory(tables_dir, query.name, query.kind)
    own_alerts = OwnAlerts(tables_dir, query.name) if query.kind == ALERTS else None
    # A stream has either rows that are only added, or an aggregation, which Spark gives as a whole.
    modes = ["complete", "append"] if query.kind == TABLE else ["append"]
    for mode in modes:

        def process(batch: DataFrame, batch_id: int, *, mode: str = mode) -> None:
            rows = batch.toArrow()
            if own_alerts:
                on_alerts(own_alerts.add(rows, batch_id))
            elif rows.num_rows or mode == "complete":
                name = "rows.parquet" if mode == "complete" else f"rows-{batch_id:09d}.parquet"
                write_atomically(directory / name, lambda file: pq.write_table(rows, file, compression="zstd"))

        writer = (
            frame.writeStream.option("checkpointLocation", spark_uri(directory / CHECKPOINT_DIRECTORY))
            .queryName(f"longtail query {query.name}.{query.kind}")
            .outputMode(mode)
            .foreachBatch(process)
        )
        try:
            return with_trigger(writer, trigger).start()
        except AnalysisException as error:
            if mode == modes[-1]:
                raise UserError(f"--query {query.label} does not work on a stream: {error}") from None
    raise AssertionError("the last mode returns or raises")


def _cause(error: StreamingQueryException) -> str:
    text = str(error)
    found = re.search(r"^(?:\w+\.)*(\w+(?:Error|Exception): .*)$", text, re.MULTILINE)
    return found[1] if found else text.strip().splitlines()[0]
