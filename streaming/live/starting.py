"""Starts streaming queries that need processes of Python, on busy machines too."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread

from pyspark.errors import StreamingQueryException
from pyspark.sql.streaming.listener import StreamingQueryProgress
from pyspark.sql.streaming.query import StreamingQuery

from longtail.streaming.event_files.source import GOES_ON_AFTER_REPEATING
from longtail.streaming.events.files import listed

MAX_STARTS = 6


class PatientQuery:
    """A streaming query, with Spark's method names, that starts again if a process of Python came too late.

    Spark gives such a process 10 seconds, which no setting changes. The query goes on where its checkpoint says. After
    MAX_STARTS starts without a batch between them, it ends with Spark's error.
    """

    def __init__(self, start: Callable[[], StreamingQuery]) -> None:
        """Start the query; returns when its sources are there, or when it has ended."""
        self._start, self._lock = start, Lock()
        self._is_stopped, self._has_ended = False, Event()
        self._starts_left = MAX_STARTS
        self._query = self._started()
        Thread(target=self._watch, daemon=True).start()

    @property
    def isActive(self) -> bool:
        """Whether the query runs, or is about to start again."""
        return not self._has_ended.is_set()

    @property
    def lastProgress(self) -> StreamingQueryProgress | None:
        """Spark's report of the last micro-batch since the last start, None before the first."""
        return self._query.lastProgress

    def exception(self) -> StreamingQueryException | None:
        """The error that ended the query, None if there is none."""
        return self._query.exception() if self._has_ended.is_set() else None

    def processAllAvailable(self) -> None:
        """Block until all data that are there now are processed."""
        self._query.processAllAvailable()

    def awaitTermination(self, seconds: float | None = None) -> bool:
        """Block until the query ends, or for so many seconds; whether it has ended. Raises the error that ended it."""
        has_ended = self._has_ended.wait(seconds)
        if has_ended:
            self._query.awaitTermination()
        return has_ended

    def stop(self) -> None:
        """End the query."""
        with self._lock:
            self._is_stopped = True
            self._query.stop()
        self._has_ended.wait()

    def _started(self) -> StreamingQuery:
        while True:
            self._starts_left -= 1
            query = self._start()
            while query.isActive and query.status["message"].startswith("Initializing"):
                time.sleep(0.02)
            if not self._starts_left or not _came_too_late(query):
                return query

    def _watch(self) -> None:
        # If the JVM has ended, or the query cannot start again, whoever waits for it gets the error.
        with suppress(Exception):
            while self._starts_again():
                pass
        self._has_ended.set()

    def _starts_again(self) -> bool:
        """Wait for the end of the query; whether it has been started again."""
        query = self._query
        with suppress(StreamingQueryException):
            query.awaitTermination()
        if query.lastProgress:
            self._starts_left = MAX_STARTS
        with self._lock:
            if self._is_stopped or not self._starts_left or not _came_too_late(query):
                return False
            self._query = self._started()
        return True


def start_to_the_end(start: Callable[[], StreamingQuery], checkpoint: Path) -> PatientQuery:
    """Start a query that processes what is there and ends; before that, one that repeats a batch of a killed query if
    it would do no more. Raises the error that ends that one."""
    if has_begun_batch(checkpoint) and not GOES_ON_AFTER_REPEATING:
        PatientQuery(start).awaitTermination()
    return PatientQuery(start)


def has_begun_batch(checkpoint: Path) -> bool:
    """Whether a query ended within a batch."""
    begun, done = (
        max((int(name) for name in listed(checkpoint / log) if name.isdigit()), default=-1)
        for log in ("offsets", "commits")
    )
    return begun > done


def _came_too_late(query: StreamingQuery) -> bool:
    return "failed to connect back" in str(query.exception())
