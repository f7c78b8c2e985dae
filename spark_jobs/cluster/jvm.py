"""Start Spark's JVM with a quiet standard error.

Output of the JVM and of the Python workers still reaches the user, except for lines that every start repeats and that
nobody can act on.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from py4j.java_gateway import JavaGateway
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import redacted

_REPEATED = re.compile(
    r"WARNING: Using incubator modules: jdk\.incubator\.vector"
    # The report on packages that were resolved without a problem.
    r"|:: |Ivy Default Cache set to:|The jars for the packages stored in:|\S+#\S+ added as a dependency"
    r"|\t(confs:|found |modules in use:|:: modules in use:|[\w.-]+#[\w.-]+;\S+ from |-+$|\||\d+ artifacts copied)"
    r"|\s*$"
)


_EXCEPTION = re.compile(r"(?:Exception in thread \"main\" )?[\w.$]+(?:Exception|Error): (.+)")
"""A line of Java's that tells of an exception, and its message."""
_MOST_SECONDS_OF_READING = 5.0

MOST_SECONDS = 60.0
"""Until a JVM that has been interrupted while it started can be ended."""


class _WithoutFork(dict[str, Any]):
    """Arguments of Popen that keep no preexec_fn, with which it would fork.

    The threads of hdfs-native let no forked process come as far as its program. PySpark's preexec_fn keeps Ctrl-C from
    the JVM, which a process group of its own does too.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "preexec_fn":
            super().__setitem__(name, value)


def start_jvm(configuration: SparkConf, *, quiet: bool, hold: bool) -> subprocess.Popen[bytes] | None:
    """Start the JVM that SparkSession.builder will use, and return its process; None if one is running already.

    quiet: whether lines of its standard error are left out
    hold: whether those of its start wait until it has started

    Raises UserError if it does not start and has said why in lines that were held.
    """
    if SparkContext._gateway is not None:
        return None
    if not quiet:
        gateway = _launch(configuration, _WithoutFork(process_group=0))
        SparkContext._ensure_initialized(gateway=gateway, conf=configuration)
        return gateway.proc
    read_end, write_end = os.pipe()
    output = _Output(read_end, hold=hold)
    try:
        gateway = _launch(configuration, _WithoutFork(process_group=0, stderr=write_end))
    except PySparkRuntimeError:
        os.close(write_end)
        if not (reason := output.reason()):
            raise
        raise UserError(does_not_start(reason)) from None
    except BaseException:
        os.close(write_end)
        raise
    os.close(write_end)  # the JVM has a copy
    output.release()
    SparkContext._ensure_initialized(gateway=gateway, conf=configuration)
    return gateway.proc


def _launch(configuration: SparkConf, popen_kwargs: _WithoutFork) -> JavaGateway:
    """As launch_gateway(), but of an interrupted start no JVM is left.

    launch_gateway() removes the directory in which the JVM says that it has started, and a JVM that cannot say so stays
    for good. So it goes on in a thread of its own until the JVM can be ended.
    """
    started: Future[JavaGateway] = Future()

    def launch() -> None:
        try:
            started.set_result(launch_gateway(configuration, popen_kwargs=popen_kwargs))
        except BaseException as error:  # noqa: BLE001 - raised again where the JVM is waited for
            started.set_exception(error)

    threading.Thread(target=launch, daemon=True).start()
    try:
        return started.result()
    except KeyboardInterrupt:
        with suppress(Exception):  # it has not started either
            process = started.result(MOST_SECONDS).proc
            assert process is not None
            process.kill()
            process.wait()
        raise


def silence_accumulators(context: SparkContext) -> None:
    """Keep the server of Spark's accumulators from printing a stack trace when the JVM is killed: the job says so."""
    server: Any = context._accumulatorServer  # PySpark offers no other way to it
    server.handle_error = lambda request, client_address: None


def does_not_start(reason: str) -> str:
    """The message to the user, who has chosen the master and Spark's settings."""
    return f"Spark does not start ({reason}): correct --master or Spark's settings; --verbose shows more"


class _Output:
    """The JVM's standard error, which a thread passes on until all copies of the pipe's other end are closed."""

    def __init__(self, read_end: int, *, hold: bool) -> None:
        """hold: whether to keep the lines until release()"""
        self._held: list[str] | None = [] if hold else None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._pass_on, args=(read_end,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Pass on what was held, and from now on each line when it comes."""
        with self._lock:
            held, self._held = self._held, None
            _write(held or [])

    def reason(self) -> str:
        """Why a JVM that has ended did not start: the exception's message, or else all that it said; may be empty."""
        self._thread.join(_MOST_SECONDS_OF_READING)
        with self._lock:
            held = self._held or []
        for line in held:
            if found := _EXCEPTION.match(line):
                return found[1].strip()
        return " ".join(line.strip() for line in held if not line.startswith("Error: "))

    def _pass_on(self, read_end: int) -> None:
        with open(read_end, encoding="utf-8", errors="replace") as lines:
            for block in _blocks(lines):
                if _REPEATED.match(block[0]) or _is_of_an_ended_task(block):
                    continue
                with self._lock:
                    if self._held is None:
                        _write(block)
                    else:
                        self._held += block


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each Python stack trace together, all others one by one."""
    trace: list[str] = []
    for line in lines:
        if line.startswith("Traceback (most recent call last):"):
            if trace:
                yield trace
            trace = [line]
        elif not trace:
            yield [line]
        else:
            trace.append(line)
            if not line.startswith(" "):  # the exception
                yield trace
                trace = []
    if trace:
        yield trace


def _is_of_an_ended_task(block: list[str]) -> bool:
    """Whether a Python worker could not answer a task that has failed in the JVM: the job says why it failed."""
    return len(block) > 1 and "pyspark/daemon.py" in block[1] and block[-1].startswith("BrokenPipeError")


def _write(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(redacted(line))
    sys.stderr.flush()
