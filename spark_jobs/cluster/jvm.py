"""Start Spark's JVM with a quiet standard error.

Output of the JVM and of the Python workers still reaches the user, except for lines that every start repeats and that
nobody can act on.
"""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from py4j.java_gateway import JavaGateway
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

from longtail.conf.base.shown_text import redacted

_REPEATED = re.compile(
    r"WARNING: Using incubator modules: jdk\.incubator\.vector"
    # The report on packages that were resolved without a problem.
    r"|:: |Ivy Default Cache set to:|The jars for the packages stored in:|\S+#\S+ added as a dependency"
    r"|\t(confs:|found |modules in use:|:: modules in use:|[\w.-]+#[\w.-]+;\S+ from |-+$|\||\d+ artifacts copied)"
    r"|\s*$"
)


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


def start_jvm(configuration: SparkConf, *, quiet: bool) -> subprocess.Popen[bytes] | None:
    """Start the JVM that SparkSession.builder will use, and return its process; None if one is running already.

    quiet: whether lines of its standard error are left out
    """
    if SparkContext._gateway is not None:
        return None
    if not quiet:
        gateway = _launch(configuration, _WithoutFork(process_group=0))
        SparkContext._ensure_initialized(gateway=gateway, conf=configuration)
        return gateway.proc
    read_end, write_end = os.pipe()
    threading.Thread(target=_pass_on, args=(read_end,), daemon=True).start()
    try:
        gateway = _launch(configuration, _WithoutFork(process_group=0, stderr=write_end))
    finally:
        os.close(write_end)  # the JVM has a copy; the thread ends when that is closed
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


def _pass_on(read_end: int) -> None:
    with open(read_end, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not _REPEATED.match(line):
                sys.stderr.write(redacted(line))
                sys.stderr.flush()
