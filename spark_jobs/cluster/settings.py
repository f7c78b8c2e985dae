"""Longtail's Spark settings, for those that the user left open."""

import importlib.util
import os
import re
import shlex
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from longtail import conf
from longtail.conf.options.base import SparkJobOptions

OWN_SESSION = "spark.longtail.session"
"""A setting that marks the sessions that longtail made."""
QUICK_WORKERS = "longtail.spark_jobs.cluster.quick_workers"
"""Starts the Python workers of a local session."""
PRELOADED_WORKERS = "longtail.spark_jobs.frames.preloaded_workers"
"""Starts them with PyTorch loaded."""
LISTEN_ON_LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1"}
"""Environment of a JVM all of whose ports, the web UI's included, listen on this machine only."""
_LOG_CONFIGURATION = Path(conf.__file__).parent / "log4j2.properties"
_ADDRESS_VARIABLES = ("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME")
_LOCAL_ADDRESS = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
_PROPERTIES_FILE = "--properties-file"
_SUBMIT_OPTIONS = {
    "--master": "spark.master",
    "--name": "spark.app.name",
    "--packages": "spark.jars.packages",
    "--driver-memory": "spark.driver.memory",
    "--driver-java-options": "spark.driver.extraJavaOptions",
    "--driver-class-path": "spark.driver.extraClassPath",
    _PROPERTIES_FILE: _PROPERTIES_FILE,
}
"""Options of spark-submit for what longtail sets too."""
_VARIABLES = {
    "MASTER": "spark.master",
    "SPARK_DRIVER_MEMORY": "spark.driver.memory",
    "SPARK_MEM": "spark.driver.memory",
}
"""Environment variables that Spark reads where nothing else sets the same."""


def job_settings(
    options: SparkJobOptions, users: Mapping[str, str], *, local: bool, submitted: bool, networks: bool = False
) -> dict[str, str]:
    """Spark settings of a session that a job creates, where the user has not chosen otherwise.

    submitted: in the JVM of spark-submit, which is running already
    networks: whether the job's Python workers run networks
    """
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
        **(_submitted_settings(users, local=local) if submitted else _jvm_settings(options, local=local)),
    }
    if local and not submitted:  # whose workers have this process's packages
        settings["spark.python.daemon.module"] = PRELOADED_WORKERS if networks else QUICK_WORKERS
        # Spark has a daemon of workers for each environment, and sets a variable for shorter stack traces of some.
        settings["spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled"] = "false"
    return {key: value for key, value in settings.items() if key not in users}


def _jvm_settings(options: SparkJobOptions, *, local: bool) -> dict[str, str]:
    """With which a JVM is started."""
    java_options, settings = [], {}
    if not options.verbose:
        java_options.append(f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION.as_uri()}")
    if local:
        settings["spark.driver.memory"] = "2g"
        # A local session lives for minutes: a quick start matters more than peak speed, so the first compiler tier is
        # enough. A live query's code outgrows the default cache for it, after which nothing more is compiled. A batch's
        # objects die young if the young generation holds them; else the whole heap is collected every few batches.
        java_options.append("-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Xmn600m")
    return {**settings, "spark.driver.extraJavaOptions": " ".join(java_options)} if java_options else settings


def _submitted_settings(users: Mapping[str, str], *, local: bool) -> dict[str, str]:
    """Driver and block manager of a local master listen on this machine only, unless the user has chosen an address."""
    is_chosen = users.keys() & _LOCAL_ADDRESS.keys() or any(map(os.environ.get, _ADDRESS_VARIABLES))
    return _LOCAL_ADDRESS if local and not is_chosen else {}


def log_is_chosen(users: Mapping[str, str]) -> bool:
    """Whether the user has chosen what Spark logs."""
    return "spark.log.level" in users or "log4j" in users.get("spark.driver.extraJavaOptions", "")


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


def is_local(master: str | None) -> bool:
    """Whether driver and tasks share a process: local, local[...], and None, the default; not local-cluster[...]."""
    return master is None or re.fullmatch(r"local(\[.*\])?", master) is not None


def users_settings() -> dict[str, str]:
    """What the user has chosen outside of the program: until the JVM runs, PySpark knows nothing of it.

    Spark gives what a program sets the precedence over that, so a job must not set the same. PYSPARK_SUBMIT_ARGS goes
    before spark-defaults.conf, and that before the variables that spark-submit reads.
    """
    from_variables = {key: value for name, key in _VARIABLES.items() if (value := os.environ.get(name)) is not None}
    arguments = _submit_arguments()
    file = arguments.pop(_PROPERTIES_FILE, None) or spark_configuration_directory() / "spark-defaults.conf"
    return {**from_variables, **_settings_of(Path(file)), **arguments}


def _settings_of(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
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


def _submit_arguments() -> dict[str, str]:
    """The settings in PYSPARK_SUBMIT_ARGS, with which the JVM is started, and the name of a properties file."""
    try:
        words = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    except ValueError:  # quotes that do not match, of which spark-submit complains
        return {}
    found: dict[str, str] = {}
    for option, value in pairwise([part for word in words for part in _option_and_value(word)]):
        if option in ("--conf", "-c"):
            key, _, of_key = value.partition("=")
            found[key] = of_key
        elif option in _SUBMIT_OPTIONS:
            found[_SUBMIT_OPTIONS[option]] = value
    return found


def _option_and_value(word: str) -> list[str]:
    option, is_given, value = word.partition("=")
    return [option, value] if is_given and option.startswith("--") else [word]
