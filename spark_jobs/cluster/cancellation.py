"""What a job that is interrupted waits for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

MOST_SECONDS = 10.0


@contextmanager
def tasks_ended(spark: SparkSession) -> Iterator[None]:
    """If the block fails or is interrupted, its tasks have ended when it is left, or MOST_SECONDS have gone by.

    Ctrl-C cancels Spark's jobs, but running tasks end a moment later: one that writes would make the directory of an
    unfinished table again, after it was removed.
    """
    try:
        yield
    except BaseException:
        if not is_remote():
            with suppress(Exception):  # the JVM may be what failed
                _wait(spark)
        raise


def _wait(spark: SparkSession) -> None:
    java_context: Any = spark.sparkContext._jsc  # objects of the JVM have no static type
    tracker = java_context.sc().statusTracker()
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline and any(executor.numRunningTasks() for executor in tracker.getExecutorInfos()):
        time.sleep(0.05)
