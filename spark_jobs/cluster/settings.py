"""Longtail's Spark settings, for those that the user left open."""

import importlib.util
import os
import re
from pathlib import Path

from longtail import conf
from longtail.conf.options.base import SparkJobOptions

_LOG_CONFIGURATION = Path(conf.__file__).parent / "log4j2.properties"


def job_settings(options: SparkJobOptions, *, local: bool) -> dict[str, str]:
    """Spark settings of a session that a job creates."""
    settings = {
        "spark.ui.showConsoleProgress": "false",
        # Small streaming jobs get their share beside a long inference stage.
        "spark.scheduler.mode": "FAIR",
        # A rank that never reaches the barrier fails the stage instead of blocking it forever.
        "spark.barrier.sync.timeout": "300s",
        # A damaged page is an error, not another label or image.
        "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
        # A live query's plans have more generated classes than the 100 that Spark caches: else each is compiled again.
        "spark.sql.codegen.cache.maxEntries": "2000",
        **query_settings(local=local),
    }
    if not options.verbose:
        settings["spark.driver.extraJavaOptions"] = f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION.as_uri()}"
    if local:
        settings["spark.driver.memory"] = "2g"
        # A local session lives for minutes: a quick start matters more than peak speed, so the first compiler tier is
        # enough. A live query's code outgrows the default cache for it, after which nothing more is compiled. A batch's
        # objects die young if the young generation holds them; else the whole heap is collected every few batches.
        quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Xmn600m"
        settings["spark.driver.extraJavaOptions"] = (
            f"{settings.get('spark.driver.extraJavaOptions', '')} {quick}".strip()
        )
    return settings


def query_settings(*, local: bool) -> dict[str, str]:
    """Those of them that each session of an application may have of its own."""
    settings = {
        # Image rows are wide: fewer of them per Arrow batch.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
        # And fewer yet if they are photographs: 2000 of 128 KiB fit.
        "spark.sql.execution.arrow.maxBytesPerBatch": "256m",
        "spark.sql.session.timeZone": "UTC",
        # On a busy machine, Python processes take longer to start than the 15 s that they wait for Spark.
        "spark.python.authenticate.socketTimeout": "120s",
        # Plans, as Spark's web page shows them, have no setting of a Kafka client.
        "spark.sql.redaction.options.regex": r"(?i)url|^kafka\.(?!bootstrap\.servers$)",
        # Inferring constraints from expressions as long as the checks of an event line takes the optimizer minutes.
        "spark.sql.constraintPropagation.enabled": "false",
    }
    if local:
        settings["spark.sql.shuffle.partitions"] = str(os.cpu_count() or 1)
    return settings


def users_defaults() -> dict[str, str]:
    """What the user's spark-defaults.conf sets: until the JVM runs, PySpark knows nothing of it.

    Spark gives what a program sets the precedence over that file, so a job must not set the same.
    """
    try:
        text = (spark_configuration_directory() / "spark-defaults.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return dict(re.findall(r"^[ \t]*(spark\.[^\s=:]+)[ \t]*[=:]?[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))


def spark_configuration_directory() -> Path:
    """Where Spark looks for files of settings; without loading PySpark, as not every job needs it."""
    if directory := os.environ.get("SPARK_CONF_DIR"):
        return Path(directory)
    package = importlib.util.find_spec("pyspark")
    assert package is not None and package.origin is not None, "longtail depends on it"
    return Path(os.environ.get("SPARK_HOME") or Path(package.origin).parent, "conf")
