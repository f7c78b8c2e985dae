"""Start Spark's JVM with a quiet standard error.

Output of the JVM and of the Python workers still reaches the user, except for lines that every start repeats and that
nobody can act on.
"""

import os
import re
import subprocess
import sys
import threading
from typing import Any

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


def start_quiet_jvm(configuration: SparkConf) -> subprocess.Popen[bytes] | None:
    """Start the JVM that SparkSession.builder will use, and return its process; None if one is running already."""
    if SparkContext._gateway is not None:
        return None
    read_end, write_end = os.pipe()
    threading.Thread(target=_pass_on, args=(read_end,), daemon=True).start()
    try:
        gateway = launch_gateway(configuration, popen_kwargs={"stderr": write_end})
    finally:
        os.close(write_end)  # the JVM has a copy; the thread ends when that is closed
    SparkContext._ensure_initialized(gateway=gateway, conf=configuration)
    return gateway.proc


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
