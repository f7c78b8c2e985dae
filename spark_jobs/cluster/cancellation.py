"""Calls that run Spark jobs, of which nothing runs any more once they have failed or were interrupted."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

T = TypeVar("T")

MOST_SECONDS = 30.0
_INTERRUPTED = "py4j.protocol.Py4JJavaError: An error occurred while calling a function: java.lang.InterruptedException"
"""What Spark takes for the end of a stream that is stopped."""


@contextmanager
def reported_briefly(stopping: threading.Event) -> Iterator[None]:
    """Around what a stream does with a micro-batch: while the stream is stopped, an error counts as an interruption.

    Spark searches the text of such an error by a regular expression that overflows the stack of its thread if the text
    has a trace of the JVM in it, and prints a trace of hundreds of lines.
    """
    try:
        yield
    except Exception:
        if stopping.is_set():
            raise RuntimeError(_INTERRUPTED) from None
        raise


def write_to_its_end(spark: SparkSession, write: Callable[[], object]) -> None:
    """Call write(), which writes by Spark. If it fails or is interrupted, nothing of it writes any more afterwards.

    Or MOST_SECONDS have gone by. Ctrl-C cancels the jobs that are running, and no more: the JVM would begin the job
    that it was planning, and cancelled tasks end a moment later. Both would make a directory again that was removed.
    """
    run_to_their_end(spark, Call(write))


class Call(Generic[T]):
    """A call of run_to_their_end(), and what it returned."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self._values: list[T] = []

    @property
    def value(self) -> T:
        """What it returned; there once run_to_their_end() has returned."""
        return self._values[0]

    def run(self) -> None:
        """Make the call."""
        self._values = [self.function()]


def run_to_their_end(spark: SparkSession, *calls: Call[Any]) -> None:
    """Make calls that run Spark jobs and do not need each other, at the same time: Spark plans one while another runs.

    If one fails or is interrupted, nothing of any of them runs afterwards, as write_to_its_end() says.
    """
    if is_remote():
        for call in calls:
            call.run()
        return
    # In threads, since an interrupted call is lost: nobody would know when the JVM has come to its end.
    tag = f"longtail-{uuid.uuid4().hex}"
    threads = [_Thread(spark, call, tag) for call in calls]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        _cancel(spark, threads, tag)
        raise
    if errors := [thread.error for thread in threads if thread.error is not None]:
        _await_tasks(spark, time.monotonic() + MOST_SECONDS)
        raise errors[0]


class _Thread(threading.Thread):
    """A thread for a call, whose Spark jobs have the properties of those of the thread that makes it.

    error: what the call raised
    """

    def __init__(self, spark: SparkSession, call: Call[Any], tag: str) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._spark, self._call, self._tag = spark, call, tag
        self._properties = _java_context(spark).getLocalProperties().clone()

    def run(self) -> None:
        try:
            _java_context(self._spark).setLocalProperties(self._properties)
            self._spark.sparkContext.addJobTag(self._tag)
            self._call.run()
        except BaseException as error:  # noqa: BLE001 - raised again where the call was made
            self.error = error


def _cancel(spark: SparkSession, threads: Sequence[threading.Thread], tag: str) -> None:
    """Cancel the jobs of all threads until none comes any more, and wait for their tasks."""
    deadline = time.monotonic() + MOST_SECONDS
    with suppress(Exception):  # the JVM may be what failed
        while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
            spark.sparkContext.cancelJobsWithTag(tag)
            time.sleep(0.05)
    _await_tasks(spark, deadline)


def _await_tasks(spark: SparkSession, deadline: float) -> None:
    with suppress(Exception):  # as above
        while time.monotonic() < deadline and _has_running_tasks(spark):
            time.sleep(0.05)


def _has_running_tasks(spark: SparkSession) -> bool:
    # The scheduler's own count: that of Spark's status tracker is seconds old, and begins with none.
    numbers = _java_context(spark).taskScheduler().runningTasksByExecutors().valuesIterator()
    while numbers.hasNext():
        if numbers.next():
            return True
    return False


def _java_context(spark: SparkSession) -> Any:  # objects of the JVM have no static type
    java_context: Any = spark.sparkContext._jsc
    return java_context.sc()
