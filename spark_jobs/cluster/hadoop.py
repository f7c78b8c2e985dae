"""Hadoop's settings of file systems, for the part of a job that is not Spark (conf/base/stores.py).

Options are read before Spark starts, so its settings are read where it will read them; once it runs, it is asked.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from longtail.conf.base.stores import use_hadoop_settings
from longtail.spark_jobs.cluster.settings import spark_configuration_directory, users_settings

_PREFIX = "spark.hadoop."
_FILES = ("core-site.xml", "hdfs-site.xml")


def use_settings_of_spark() -> None:
    """Reach stores as Spark does: by the settings of the JVM if it runs, else by those that it will start with."""
    configuration = _of_the_jvm() if "pyspark" in sys.modules or "PYSPARK_GATEWAY_PORT" in os.environ else None
    if configuration is None:
        use_hadoop_settings({**_files_settings(), **_of_spark(users_settings())})
    else:
        use_hadoop_settings(_entries(configuration))


def _of_the_jvm() -> Any:
    """The Configuration of the running session, or of spark-submit; None if no JVM runs."""
    from pyspark import SparkContext

    if SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()  # spark-submit has started the JVM
    gateway = SparkContext._gateway
    if gateway is None:
        return None
    context = SparkContext._active_spark_context
    java_context: Any = None if context is None else context._jsc  # objects of the JVM have no static type
    if java_context is not None:
        return java_context.hadoopConfiguration()
    jvm: Any = gateway.jvm
    return jvm.org.apache.spark.deploy.SparkHadoopUtil.get().conf()


def _entries(configuration: Any) -> dict[str, str]:
    """The entries of a Configuration of the JVM, with variables replaced."""
    prefixes = ("fs.defaultFS", "fs.s3a", "fs.s3.impl", "dfs.nameservices", "dfs.ha", "dfs.namenode.rpc", "dfs.client")
    found: dict[str, str] = {}
    for prefix in prefixes:
        properties = configuration.getPropsWithPrefix(prefix)
        found |= {f"{prefix}{name}": str(properties[name]) for name in properties}
    return found


def _of_spark(settings: Mapping[str, str]) -> dict[str, str]:
    """Hadoop's settings among Spark's."""
    return {name.removeprefix(_PREFIX): value for name, value in settings.items() if name.startswith(_PREFIX)}


def _files_settings() -> dict[str, str]:
    """The settings in Hadoop's files, of the directories where Spark looks for them."""
    hadoop = (os.environ.get(name) for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"))
    directories = (*hadoop, str(spark_configuration_directory()))
    found: dict[str, str] = {}
    for directory in reversed([directory for directory in directories if directory]):
        for name in _FILES:
            found |= _properties(Path(directory, name))
    return found


def _properties(file: Path) -> dict[str, str]:
    """Names and values of a file of Hadoop's; none if it is not there or damaged, of which Spark itself tells."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - the administrator's own file
    except (OSError, ElementTree.ParseError):
        return {}
    pairs = ((entry.findtext("name"), entry.findtext("value")) for entry in root.iter("property"))
    return {name.strip(): (value or "").strip() for name, value in pairs if name}
