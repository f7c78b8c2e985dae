"""Starting Spark's JVM with a quiet standard error.

What the JVM and the Python workers write there still reaches the user, but for
the lines that every start repeats and nobody can act on.
"""

import os
import re
import sys
import threading

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

_REPEATED = re.compile(
    r"WARNING: Using incubator modules: jdk\.incubator\.vector"
    # What resolving a package says when all is well.
    r"|:: |Ivy Default Cache set to:|The jars for the packages stored in:|\S+#\S+ added as a dependency"
    r"|\t(confs:|found |modules in use:|:: modules in use:|[\w.-]+#[\w.-]+;\S+ from |-+$|\||\d+ artifacts copied)"
    r"|\s*$"
)


def start_quiet_jvm(configuration: SparkConf) -> None:
    """Start the JVM that SparkSession.builder will use; does nothing if one runs already."""
    if SparkContext._gateway is not None:
        return
    read_end, write_end = os.pipe()
    threading.Thread(target=_pass_on, args=(read_end,), daemon=True).start()
    try:
        gateway = launch_gateway(configuration, popen_kwargs={"stderr": write_end})
    finally:
        os.close(write_end)  # the JVM has its own copy; the thread ends with it
    SparkContext._ensure_initialized(gateway=gateway, conf=configuration)


def _pass_on(read_end: int) -> None:
    with open(read_end, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not _REPEATED.match(line):
                sys.stderr.write(line)
                sys.stderr.flush()
