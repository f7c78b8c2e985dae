"""The Spark session of a job, and the check that this machine can start one.

The master is set only if the user gives one; otherwise it is that of spark-submit, of spark-defaults.conf, or local[*].
"""

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from longtail import conf
from longtail.conf.base.errors import UserError
from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.jvm import silence_accumulators, start_quiet_jvm

MINIMUM_JAVA = 17
_LOG_CONFIGURATION = Path(conf.__file__).parent / "log4j2.properties"


def spark_session(name: str, options: SparkJobOptions, *, slots: int = 1, packages: Sequence[str] = ()) -> SparkSession:
    """Create the session of a job, or return the running one.

    slots: tasks that the job runs at once; without a chosen master, local[*] grows to that number
    packages: Maven coordinates that the job needs in addition to Spark; spark-submit takes them by --packages

    Raises UserError if Java is missing or too old, if the master is given twice, or if a package cannot be fetched.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        if options.master is not None:
            raise UserError("give --master to spark-submit, before the script, not to the job")
        SparkContext._ensure_initialized()  # so that SparkConf() has the options of spark-submit
    else:
        check_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    configuration = SparkConf().setAppName(f"longtail {name}")
    if options.master is not None:
        configuration.setMaster(options.master)
    for key, value in _settings(options, local=is_local(configuration.get("spark.master", "local"))).items():
        configuration.setIfMissing(key, value)
    if packages:
        configuration.setIfMissing("spark.jars.packages", ",".join(packages))
    if not submitted and not options.verbose:
        _start_jvm(configuration, packages)
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
    # Shown in Spark's UI for stages that set no description of their own.
    spark.sparkContext.setJobDescription(f"longtail {name}")
    return spark


def _start_jvm(configuration: SparkConf, packages: Sequence[str]) -> None:
    """Start the JVM without Spark's log. Raises UserError if it does not start and packages were to be fetched."""
    try:
        start_quiet_jvm(configuration)
    except PySparkRuntimeError:
        if not packages:
            raise
        raise UserError(
            f"Spark did not start with {', '.join(packages)}, which is fetched from Maven Central on first use: "
            f"--verbose shows the reason"
        ) from None


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


def _settings(options: SparkJobOptions, *, local: bool) -> dict[str, str]:
    """Spark settings, for those that the user left open."""
    settings = {
        "spark.ui.showConsoleProgress": "false",
        # Small streaming jobs get their share beside a long inference stage.
        "spark.scheduler.mode": "FAIR",
        # Image rows are wide: fewer of them per Arrow batch.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
        # A rank that never reaches the barrier fails the stage instead of blocking it forever.
        "spark.barrier.sync.timeout": "300s",
        "spark.sql.session.timeZone": "UTC",
        # Plans, as Spark's web page shows them, have no setting of a Kafka client.
        "spark.sql.redaction.options.regex": r"(?i)url|^kafka\.(?!bootstrap\.servers$)",
        # A damaged page is an error, not another label or image.
        "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
        # Inferring constraints from expressions as long as the checks of an event line takes the optimizer minutes.
        "spark.sql.constraintPropagation.enabled": "false",
        # A live query's plans have more generated classes than the 100 that Spark caches: else each is compiled again.
        "spark.sql.codegen.cache.maxEntries": "2000",
    }
    if not options.verbose:
        settings["spark.driver.extraJavaOptions"] = f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION.as_uri()}"
    if local:
        # All ports, the web UI's included, listen on this machine only.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        settings["spark.driver.memory"] = "2g"
        settings["spark.sql.shuffle.partitions"] = str(os.cpu_count() or 1)
        # A local session lives for minutes: a quick start matters more than peak speed, so the first compiler tier is
        # enough. A live query's code outgrows the default cache for it, after which nothing more is compiled. A batch's
        # objects die young if the young generation holds them; else the whole heap is collected every few batches.
        quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Xmn600m"
        settings["spark.driver.extraJavaOptions"] = (
            f"{settings.get('spark.driver.extraJavaOptions', '')} {quick}".strip()
        )
    return settings


def is_local(master: str | None) -> bool:
    """Whether driver and tasks share a process: local, local[...], and None, the default; not local-cluster[...]."""
    return master is None or re.fullmatch(r"local(\[.*\])?", master) is not None


def check_java() -> None:
    """Raise UserError unless the java that Spark would start exists and is new enough."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    remedy = f"install Java {MINIMUM_JAVA} (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME to it"
    if shutil.which(java) is None:
        raise UserError(f"Spark needs Java {MINIMUM_JAVA} or newer, and there is no {java}: {remedy}")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"{java} cannot be run ({error.strerror}): {remedy}") from None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    if found is None:
        raise UserError(f"`{java} -version` does not print a version: {remedy}")
    if int(found[1]) < MINIMUM_JAVA:
        raise UserError(f"Spark needs Java {MINIMUM_JAVA} or newer, {java} is Java {found[1]}: {remedy}")
