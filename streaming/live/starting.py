"""Starts streaming queries whose source is a Python process, on busy machines too."""

import time
from collections.abc import Callable

from pyspark.sql.streaming.query import StreamingQuery

MAX_STARTS = 3


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
