"""The Spark session of a job.

The master is set only if the user gives one; otherwise it is that of spark-submit, of spark-defaults.conf, or local[*].
A session that is running already belongs to somebody else: nothing in it is changed, the job gets one of its own beside
it.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.class_archive import ClassArchive, class_archive
from longtail.spark_jobs.cluster.hadoop import use_settings_of_spark
from longtail.spark_jobs.cluster.java import check_java
from longtail.spark_jobs.cluster.jvm import silence_accumulators, start_quiet_jvm
from longtail.spark_jobs.cluster.settings import job_settings, query_settings, users_defaults

_OWN = "spark.longtail.session"
"""A setting that marks the sessions that longtail made."""


def spark_session(name: str, options: SparkJobOptions, *, slots: int = 1, packages: Sequence[str] = ()) -> SparkSession:
    """Create the session of a job; if one is running, return it or, unless longtail made it, a new one beside it.

    slots: tasks that the job runs at once; without a chosen master, local[*] grows to that number
    packages: Maven coordinates that the job needs in addition to Spark; spark-submit takes them by --packages

    Raises UserError if Java is missing or too old, if the master is given twice or is not that of the running session,
    or if a package cannot be fetched.
    """
    if SparkContext._active_spark_context is not None:
        use_settings_of_spark()
        return _beside(SparkSession.builder.getOrCreate(), options)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        if options.master is not None:
            raise UserError("give --master to spark-submit, before the script, not to the job")
        SparkContext._ensure_initialized()  # so that SparkConf() has the options of spark-submit
    configuration = SparkConf().setAppName(f"longtail {name}").set(_OWN, "true")
    if options.master is not None:
        configuration.setMaster(options.master)
    if packages:
        configuration.setIfMissing("spark.jars.packages", ",".join(packages))
    _prepare(configuration, options, packages, submitted=submitted)
    spark = SparkSession.builder.config(conf=configuration).getOrCreate()
    context = spark.sparkContext
    if not submitted and options.master is None and is_local(context.master) and context.defaultParallelism < slots:
        spark.stop()
        spark = SparkSession.builder.config(conf=configuration.setMaster(f"local[{slots}]")).getOrCreate()
    if not options.verbose:
        # spark-submit has started the JVM, with a log configuration of its own.
        spark.sparkContext.setLogLevel("OFF" if submitted else "ERROR")
        silence_accumulators(spark.sparkContext)
        # py4j logs the trace of every interrupted call, Ctrl-C included, on the root logger.
        logging.getLogger().setLevel(logging.CRITICAL)
    use_settings_of_spark()
    # Shown in Spark's UI for stages that set no description of their own.
    spark.sparkContext.setJobDescription(f"longtail {name}")
    return spark


def _beside(running: SparkSession, options: SparkJobOptions) -> SparkSession:
    """The session itself if longtail made it; or one with its settings, and longtail's for those it leaves open."""
    master = running.sparkContext.master
    if options.master not in (None, master):
        raise UserError(
            f"--master {options.master}: a Spark session with the master {master} is running in this process: "
            f"leave --master out, or stop that session first"
        )
    if running.conf.get(_OWN, None) is not None:
        return running
    own = running.newSession()
    for key, value in {**query_settings(local=is_local(master)), **running.conf.getAll, _OWN: "true"}.items():
        if key == _OWN or own.conf.isModifiable(key):
            own.conf.set(key, value)
    return own


def _prepare(configuration: SparkConf, options: SparkJobOptions, packages: Sequence[str], *, submitted: bool) -> None:
    """Complete the settings, and start the JVM unless spark-submit has, or it is to show its log."""
    java_version = "" if submitted else check_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    defaults = {} if submitted else users_defaults()
    local = is_local(configuration.get("spark.master", defaults.get("spark.master", "local")))
    if local:
        # All ports, the web UI's included, listen on this machine only.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = job_settings(options, local=local)
    users_choice = {*defaults, *(key for key, _ in configuration.getAll())}
    for key in settings.keys() - users_choice:
        configuration.set(key, settings[key])
    if submitted or options.verbose:
        return
    archive = None
    if local and not users_choice & {"spark.driver.extraJavaOptions", "spark.driver.extraClassPath"}:
        memory = configuration.get("spark.driver.memory", defaults.get("spark.driver.memory", ""))
        archive = class_archive(java_version, driver_memory=str(memory))
    if archive is not None:
        quick = settings["spark.driver.extraJavaOptions"]
        configuration.set("spark.driver.extraJavaOptions", f"{quick} {archive.java_options}")
    _start_jvm(configuration, packages, archive)


def _start_jvm(configuration: SparkConf, packages: Sequence[str], archive: ClassArchive | None) -> None:
    """Start the JVM without Spark's log. Raises UserError if it does not start and packages were to be fetched."""
    try:
        jvm = start_quiet_jvm(configuration)
    except PySparkRuntimeError:
        if not packages:
            raise
        raise UserError(
            f"Spark did not start with {', '.join(packages)}, which is fetched from Maven Central on first use: "
            f"--verbose shows the reason"
        ) from None
    if jvm is not None and archive is not None:
        archive.keep_when_written(jvm)


@contextmanager
def described(spark: SparkSession, description: str) -> Iterator[None]:
    """Describe the jobs and stages of the block in Spark's UI."""
    context = spark.sparkContext
    before = context.getLocalProperty("spark.job.description")
    context.setJobDescription(description)
    try:
        yield
    finally:
        java_context: Any = context._jsc  # objects of the JVM have no static type
        java_context.setJobDescription(before)  # None removes it, which PySpark's own method does not allow


def is_local(master: str | None) -> bool:
    """Whether driver and tasks share a process: local, local[...], and None, the default; not local-cluster[...]."""
    return master is None or re.fullmatch(r"local(\[.*\])?", master) is not None
