"""Streaming queries of a user's own, beside the live query: a Python file with `table` or `alerts`, or both.

    def table(events: DataFrame) -> DataFrame       # its rows are kept as a table
    def alerts(events: DataFrame) -> DataFrame      # rows (run, message, ...) are alerts

`events` is event_stream of all events. Each function is a streaming query with a checkpoint of its own; it starts anew
when the file or the source has changed. Rows of an aggregation replace those of before, others are added
(streaming/tables/query_rows.py).

A query that fails ends alone, with one line; the live query and its tables go on.
"""

import hashlib
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
from pyspark.errors import AnalysisException, StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_atomically
from longtail.conf.base.locations import spark_uri
from longtail.conf.base.shown_text import one_line
from longtail.conf.base.user_code import call_code
from longtail.streaming.live.checkpoint import claim_checkpoint, is_of_source
from longtail.streaming.live.event_stream import event_stream
from longtail.streaming.live.own_alerts import Alerts, OwnAlerts
from longtail.streaming.live.query import CHECKPOINT_DIRECTORY, OWN_SETTINGS
from longtail.streaming.live.starting import start_patiently, start_to_the_end
from longtail.streaming.live.trigger import with_trigger
from longtail.streaming.tables.query_rows import ALERTS, TABLE, query_directory, query_files

_NAME = re.compile(r"\w[\w-]{0,99}")


@dataclass(frozen=True)
class OwnQuery:
    """A function of a user's file.

    name: of the file, without .py
    kind: the function's name, TABLE or ALERTS
    version: changes with the text of the file
    """

    file: Path
    name: str
    kind: str
    version: str
    function: Callable[[DataFrame], DataFrame]

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.file}: {self.kind}(events)"


def load_queries(files: Sequence[str]) -> list[OwnQuery]:
    """Run the files and return their functions. Raises UserError if a file cannot be used."""
    queries: list[OwnQuery] = []
    for file in map(Path, files):
        if not _NAME.fullmatch(file.stem) or file.suffix != ".py":
            raise UserError(f"--query {file}: a name of letters, digits, _ and - was expected, with .py at its end")
        if any(file.stem == query.name for query in queries):
            raise UserError(f"--query {file}: there are two files {file.name}, and their tables would have one name")
        queries += _load(file)
    return queries


def _load(file: Path) -> list[OwnQuery]:
    try:
        text = read_regular_text(file)
    except OSError as error:
        raise UserError(f"--query: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--query: {file} is not UTF-8 text") from None
    # It is not among the imported modules: so Spark sends its functions to the executors, instead of their names.
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    try:
        exec(compile(text, file, "exec"), vars(module))  # noqa: S102 - the user names this file to have it run
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
        raise UserError(f"--query {file}: running it fails: {type(error).__name__}: {error}") from error
    version = hashlib.sha256(text.encode()).hexdigest()[:8]
    found: dict[str, Any] = {kind: vars(module)[kind] for kind in (TABLE, ALERTS) if callable(vars(module).get(kind))}
    if not found:
        raise UserError(f"--query {file}: it defines neither table(events) nor alerts(events)")
    return [OwnQuery(file, file.stem, kind, version, function) for kind, function in found.items()]


def start_queries(
    spark: SparkSession,
    queries: Sequence[OwnQuery],
    read_lines: Callable[[SparkSession, Path], DataFrame],
    *,
    tables_dir: Path,
    source: str,
    trigger: str | None,
    on_alerts: Callable[[Alerts], None],
) -> list[StreamingQuery]:
    """Start the queries; those that fail later say so themselves.

    read_lines: creates the streaming DataFrame of lines (value, source) of a query with this checkpoint
    source: what the lines are from (streaming/live/checkpoint.py)
    on_alerts: is called with the new alerts of each batch, rows of the table `alerts`; with the same again after a kill

    Raises UserError if a function fails or its result is not a streaming DataFrame of the columns that it needs.
    """
    started = []
    for query in queries:
        directory = query_directory(tables_dir, query.name, query.kind)
        owner = f"{source}, by {query.name}.py of version {query.version}"
        _claim(directory, owner)
        session = spark.newSession()
        for key, value in OWN_SETTINGS.items():
            session.conf.set(key, value)
        checkpoint = directory / CHECKPOINT_DIRECTORY
        frame = _result(query, event_stream(read_lines(session, checkpoint)))
        start = partial(_start, query, frame, tables_dir, trigger, on_alerts)
        started.append(start_patiently(start) if trigger is not None else start_to_the_end(start, checkpoint))
    for query, running in zip(queries, started, strict=True):
        threading.Thread(target=_watch, args=(query, running), daemon=True).start()
    return started


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


def failure_of(query: OwnQuery, running: StreamingQuery) -> str | None:
    """Why a query has ended, in one line; None if it has not failed."""
    error = running.exception()
    return None if error is None else one_line(f"--query {query.label} has failed: {_cause(error)}")


def _cause(error: StreamingQueryException) -> str:
    text = str(error)
    found = re.search(r"^(?:\w+\.)*(\w+(?:Error|Exception): .*)$", text, re.MULTILINE)
    return found[1] if found else text.strip().splitlines()[0]


def _watch(query: OwnQuery, running: StreamingQuery) -> None:
    try:
        running.awaitTermination()
    except Exception:  # noqa: BLE001 - Ctrl-C and the end of the JVM reach the job itself
        if failure := failure_of(query, running):
            print(f"{failure}; the tables go on", file=sys.stderr, flush=True)
