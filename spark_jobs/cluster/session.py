"""The Spark session of a job, and whether this machine can have one.

The master is never set here unless the user named one: spark-submit's choice,
spark-defaults.conf, or else local[*] (spark-submit's own default) stands.
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

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from longtail import conf
from longtail.conf.base.errors import UserError
from longtail.conf.options.base import JobOptions
from longtail.spark_jobs.cluster.jvm import start_quiet_jvm

MINIMUM_JAVA = 17
_LOG_CONFIGURATION = Path(conf.__file__).parent / "log4j2.properties"


def spark_session(name: str, options: JobOptions, *, slots: int = 1, packages: Sequence[str] = ()) -> SparkSession:
    """The session of a job, made or found.

    slots: how many tasks the job needs at once; if nobody chose a master, local[*] grows to that.
    packages: Maven coordinates of what the job needs beside Spark; to spark-submit they are given with --packages

    Raises UserError if Java is missing or too old, if the master is given in two ways, or if a package can't be had.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted:
        if options.master is not None:
            raise UserError("give --master to spark-submit, before the script, not to the job")
        SparkContext._ensure_initialized()  # so that SparkConf() sees what spark-submit was told
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
        try:
            start_quiet_jvm(configuration)
        except PySparkRuntimeError:
            if not packages:
                raise
            raise UserError(
                f"Spark did not start with {', '.join(packages)}: it is fetched from Maven Central when it is first "
                f"used; --verbose shows what went wrong"
            ) from None
    spark = SparkSession.builder.config(conf=configuration).getOrCreate()
    context = spark.sparkContext
    if not submitted and options.master is None and is_local(context.master) and context.defaultParallelism < slots:
        spark.stop()
        spark = SparkSession.builder.config(conf=configuration.setMaster(f"local[{slots}]")).getOrCreate()
    if not options.verbose:
        # Under spark-submit the JVM runs already, with its own log configuration.
        spark.sparkContext.setLogLevel("OFF" if submitted else "ERROR")
        # py4j logs the trace of every interrupted call, Ctrl-C included, on the root logger.
        logging.getLogger().setLevel(logging.CRITICAL)
    # What a job says of itself in Spark's UI, unless a step of it says more.
    spark.sparkContext.setJobDescription(f"longtail {name}")
    return spark


@contextmanager
def described(spark: SparkSession, description: str) -> Iterator[None]:
    """What Spark's UI says of the jobs and stages of the block, as long as it lasts."""
    context = spark.sparkContext
    before = context.getLocalProperty("spark.job.description")
    context.setJobDescription(description)
    try:
        yield
    finally:
        context.setJobDescription(before)


def _settings(options: JobOptions, *, local: bool) -> dict[str, str]:
    """Spark's settings where the user said nothing."""
    settings = {
        "spark.ui.showConsoleProgress": "false",
        # Streaming's small jobs get their turn beside a long inference stage.
        "spark.scheduler.mode": "FAIR",
        # Image rows are wide: fewer of them make an Arrow batch.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
        # A rank that never reaches the barrier fails the stage instead of blocking it for ever.
        "spark.barrier.sync.timeout": "300s",
        "spark.sql.session.timeZone": "UTC",
        # What follows from expressions as long as the checks of an event line takes the optimizer minutes to find out.
        "spark.sql.constraintPropagation.enabled": "false",
        # A live query's plans have more classes than the 100 that Spark keeps: they would be compiled anew each time.
        "spark.sql.codegen.cache.maxEntries": "2000",
    }
    if not options.verbose:
        settings["spark.driver.extraJavaOptions"] = f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION.as_uri()}"
    if local:
        # Everything, the web UI included, listens on this machine only.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        settings["spark.driver.memory"] = "2g"
        settings["spark.sql.shuffle.partitions"] = str(os.cpu_count() or 1)
        # A local session lives for minutes: quick to start beats fast after long. A live query's code outgrows the room
        # that Java gives to quick code, and from then on none is compiled. What a batch makes dies young, if it has the
        # room for that: else every few batches the whole heap is collected.
        quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Xmn600m"
        settings["spark.driver.extraJavaOptions"] = (
            f"{settings.get('spark.driver.extraJavaOptions', '')} {quick}".strip()
        )
    return settings


def is_local(master: str) -> bool:
    """Whether driver and tasks are one process: local, local[...]; not local-cluster[...]."""
    return re.fullmatch(r"local(\[.*\])?", master) is not None


def check_java() -> None:
    """Raises UserError unless the java that Spark would start is there and new enough."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    remedy = f"install Java {MINIMUM_JAVA} (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME to it"
    if shutil.which(java) is None:
        raise UserError(f"Spark needs Java {MINIMUM_JAVA} or newer, and there is no {java}: {remedy}")
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"{java} cannot be run ({error.strerror}): {remedy}") from None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if found is None:
        raise UserError(f"`{java} -version` does not tell a version: {remedy}")
    if int(found[1]) < MINIMUM_JAVA:
        raise UserError(f"Spark needs Java {MINIMUM_JAVA} or newer, {java} is Java {found[1]}: {remedy}")
