"""Starts streaming queries whose source is a Python process, on busy machines too."""

import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql.streaming.query import StreamingQuery

from longtail.streaming.event_files.source import GOES_ON_AFTER_REPEATING
from longtail.streaming.events.files import listed

MAX_STARTS = 6


def start_to_the_end(start: Callable[[], StreamingQuery], checkpoint: Path) -> StreamingQuery:
    """Start a query that processes what is there and ends; before that, one that repeats a batch of a killed query if
    it would do no more. Raises the error that ends that one."""
    if has_begun_batch(checkpoint) and not GOES_ON_AFTER_REPEATING:
        start_patiently(start).awaitTermination()
    return start_patiently(start)


def has_begun_batch(checkpoint: Path) -> bool:
    """Whether a query ended within a batch."""
    begun, done = (
        max((int(name) for name in listed(checkpoint / log) if name.isdigit()), default=-1)
        for log in ("offsets", "commits")
    )
    return begun > done


def start_patiently(start: Callable[[], StreamingQuery]) -> StreamingQuery:
    """Start a query, and again if the process of its source came too late; return when its sources are there.

    Spark gives such a process 10 seconds, which no setting changes.
    """
    query = start()
    for _ in range(MAX_STARTS - 1):
        while query.isActive and query.status["message"].startswith("Initializing"):
            time.sleep(0.02)
        if "failed to connect back" not in str(query.exception()):
            break
        query = start()
    return query
