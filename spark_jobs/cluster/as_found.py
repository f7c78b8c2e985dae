"""What a job leaves as it found it in a process that is not its own, such as a notebook's.

Settings need no putting back: a job has a Spark session of its own (session.py).
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

DESCRIPTION = "spark.job.description"


@contextmanager
def session_as_found() -> Iterator[None]:
    """After the block, the thread's active session and the properties of its Spark jobs are restored.

    These are their description, pool, group and tags. Also a decorator.
    """
    if "pyspark" not in sys.modules:  # a process that begins with a job; and starting it must not take longer
        yield
        return
    from py4j.protocol import Py4JError
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    context = SparkContext._active_spark_context
    active = SparkSession.getActiveSession() if context else None
    properties = _java_context(context).getLocalProperties().clone() if context else None
    try:
        yield
    finally:
        now = SparkContext._active_spark_context
        with suppress(Py4JError, OSError):  # the JVM is gone
            if now is not None and now is context:
                # Also after Ctrl-C, by which PySpark loses the JVM's thread that belongs to this one.
                _java_context(now).setLocalProperties(properties)
                if active is not None:
                    activate(active)
            elif now is not None:
                describe_jobs(now, None)


def _java_context(context: "SparkContext") -> Any:  # objects of the JVM have no static type
    java_context: Any = context._jsc
    return java_context.sc()


def describe_jobs(context: "SparkContext", description: str | None) -> None:
    """Describe this thread's Spark jobs in Spark's UI; None, which PySpark's own method does not take, ends that."""
    _java_context(context).setJobDescription(description)


def activate(session: "SparkSession") -> None:
    """Make a session this thread's active one, in Python and in the JVM, as creating a DataFrame of rows does."""
    type(session)._activeSession = session
    jvm = session.sparkContext._jvm
    assert jvm is not None, "the context is running"
    java_class: Any = session._get_j_spark_session_class(jvm)
    java_class.setActiveSession(session._jsparkSession)


@contextmanager
def quiet_root_logger() -> Iterator[None]:
    """In the block, the root logger is silent: py4j logs there the trace of every interrupted call, Ctrl-C included."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)
