"""The Spark session of a job.

The master is set only if the user gives one; otherwise it is that of spark-submit, of spark-defaults.conf, or local[*].
A session that is running already belongs to somebody else: nothing in it is changed, the job gets one of its own beside
it.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from longtail.conf.base.errors import UserError
from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.as_found import DESCRIPTION, describe_jobs
from longtail.spark_jobs.cluster.class_archive import ClassArchive, class_archive
from longtail.spark_jobs.cluster.connect import (
    check_runs_over_connect,
    connect_session,
    connects,
    running_connect_session,
)
from longtail.spark_jobs.cluster.environment import added_environment
from longtail.spark_jobs.cluster.executors import watch_executors
from longtail.spark_jobs.cluster.failures import root_cause, user_message
from longtail.spark_jobs.cluster.hadoop import use_settings_of_spark
from longtail.spark_jobs.cluster.java import check_java
from longtail.spark_jobs.cluster.jvm import does_not_start, silence_accumulators, start_jvm
from longtail.spark_jobs.cluster.settings import (
    LISTEN_ON_LOOPBACK,
    OWN_SESSION,
    is_local,
    job_settings,
    log_is_chosen,
    query_settings,
    users_settings,
)


def spark_session(
    name: str, options: SparkJobOptions, *, slots: int = 1, packages: Sequence[str] = (), networks: bool = False
) -> SparkSession:
    """Create the session of a job; if one is running, return it or, unless longtail made it, a new one beside it.

    slots: tasks that the job runs at once; where nobody has chosen a master, local[*] grows to that number
    packages: Maven coordinates that the job needs in addition to Spark; spark-submit takes them by --packages
    networks: whether the job's Python workers run networks; a local session of its own loads PyTorch once for all

    Raises UserError if Java is missing or too old, if the master is given twice or is not that of the running session,
    if a package cannot be fetched, or if the job does not run over Spark Connect, which the user asks for.
    """
    check_runs_over_connect(name, options)
    if connects(options):
        return connect_session(options)
    if SparkContext._active_spark_context is not None:
        use_settings_of_spark()
        return _own_session(running_session(), options)
    with added_environment(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable):
        return _new_session(name, options, slots=slots, packages=packages, networks=networks)


def running_session() -> SparkSession:
    """The session that the user works in: the active one of this thread, or else the application's default."""
    return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


def users_session(name: str, options: SparkJobOptions) -> SparkSession:
    """For DataFrames that the user gets: the session that the user works in, or a new one if none is running."""
    if (remote := running_connect_session()) is not None:
        return remote
    if SparkContext._active_spark_context is not None:
        return running_session()
    return spark_session(name, options)


def larger_master(spark: SparkSession, slots: int) -> str:
    """How the user gets more slots: an application that longtail has not started is never replaced by another."""
    if spark.sparkContext.getConf().contains(OWN_SESSION):
        return f"give a larger master (for one machine: --master 'local[{slots}]')"
    return f"start the Spark session with a larger master (for one machine: local[{slots}])"


def _own_session(running: SparkSession, options: SparkJobOptions) -> SparkSession:
    """The session itself if longtail made it; or one with its settings, and longtail's for those it leaves open."""
    master = running.sparkContext.master
    if options.master not in (None, master):
        raise UserError(
            f"--master {options.master}: a Spark session with the master {master} is running in this process: "
            f"leave --master out, or stop that session first"
        )
    if running.conf.get(OWN_SESSION, None) is not None:
        return running
    own = running.newSession()
    for key, value in {**query_settings(local=is_local(master)), **running.conf.getAll, OWN_SESSION: "true"}.items():
        if key == OWN_SESSION or own.conf.isModifiable(key):
            own.conf.set(key, value)
    return own


def _new_session(
    name: str, options: SparkJobOptions, *, slots: int, packages: Sequence[str], networks: bool
) -> SparkSession:
    submitted, jvm_runs = "PYSPARK_GATEWAY_PORT" in os.environ, SparkContext._gateway is not None
    if submitted and options.master is not None:
        raise UserError("give --master to spark-submit, before the script, not to the job")
    if submitted:
        SparkContext._ensure_initialized()  # so that SparkConf() has the options of spark-submit
    configuration = SparkConf()
    users = dict(configuration.getAll()) if submitted else users_settings()
    master = options.master or configuration.get("spark.master", users.get("spark.master"))
    with added_environment(**LISTEN_ON_LOOPBACK if is_local(master) and not submitted else {}):
        java_version = "" if submitted or jvm_runs else check_java()
        _configure(configuration, name, options, users, packages, submitted=submitted, networks=networks)
        if not (submitted or jvm_runs):
            archive = None if options.verbose else _archive(configuration, users, master, java_version)
            _start_jvm(configuration, packages, archive, quiet=not options.verbose)
        spark = _created(configuration)
        is_open = options.master is None and "spark.master" not in users and is_local(master)
        if is_open and spark.sparkContext.defaultParallelism < slots:
            spark.stop()
            spark = _created(configuration.setMaster(f"local[{slots}]"))
    if not options.verbose:
        # A JVM that ran already has a log configuration of its own; spark-submit's ends with the job.
        if (submitted or not jvm_runs) and not log_is_chosen(users):
            spark.sparkContext.setLogLevel("OFF" if submitted else "ERROR")
        silence_accumulators(spark.sparkContext)
    use_settings_of_spark()
    if not is_local(spark.sparkContext.master):
        watch_executors(spark.sparkContext)
    # Shown in Spark's UI for stages that set no description of their own.
    spark.sparkContext.setJobDescription(f"longtail {name}")
    return spark


def _created(configuration: SparkConf) -> SparkSession:
    """The session. Raises UserError, with the cause in the JVM, if Spark refuses the master or its settings."""
    try:
        return SparkSession.builder.config(conf=configuration).getOrCreate()
    except Py4JJavaError as error:
        if user_message(error) is not None:
            raise
        raise UserError(does_not_start(root_cause(error))) from error


def _configure(
    configuration: SparkConf,
    name: str,
    options: SparkJobOptions,
    users: Mapping[str, str],
    packages: Sequence[str],
    *,
    submitted: bool,
    networks: bool,
) -> None:
    """Set what a job needs and the user has left open."""
    if options.master is not None:
        configuration.setMaster(options.master)
    if not _is_named(users, submitted=submitted):
        configuration.setAppName(f"longtail {name}")
    local = is_local(configuration.get("spark.master", users.get("spark.master")))
    settings = job_settings(options, users, local=local, submitted=submitted, networks=networks)
    for key, value in settings.items():
        configuration.set(key, value)
    configuration.set(OWN_SESSION, "true")
    if packages and not submitted:
        chosen = users.get("spark.jars.packages", "").split(",")
        configuration.set("spark.jars.packages", ",".join(dict.fromkeys([*filter(None, chosen), *packages])))


def _is_named(users: Mapping[str, str], *, submitted: bool) -> bool:
    """Whether the user has named the application; spark-submit names it after the script by itself."""
    name = users.get("spark.app.name")
    return name is not None and not (submitted and name == Path(sys.argv[0]).name)


def _archive(
    configuration: SparkConf, users: Mapping[str, str], master: str | None, java_version: str
) -> ClassArchive | None:
    """The archive of classes for the JVM that starts with this configuration, which then has the option for it."""
    if not is_local(master) or users.keys() & {"spark.driver.extraJavaOptions", "spark.driver.extraClassPath"}:
        return None
    memory = configuration.get("spark.driver.memory", users.get("spark.driver.memory"))
    archive = class_archive(java_version, driver_memory=str(memory))
    if archive is not None:
        quick = configuration.get("spark.driver.extraJavaOptions")
        configuration.set("spark.driver.extraJavaOptions", f"{quick} {archive.java_options}")
    return archive


def _start_jvm(configuration: SparkConf, packages: Sequence[str], archive: ClassArchive | None, *, quiet: bool) -> None:
    """Start the JVM without Spark's log. Raises UserError if it does not start."""
    try:
        # Packages are fetched during the start, which takes a while and is logged line by line.
        jvm = start_jvm(configuration, quiet=quiet, hold=not packages)
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
    """Describe the block's jobs and stages in Spark's UI; no effect over Spark Connect, which describes its own."""
    if is_remote():
        yield
        return
    context = spark.sparkContext
    before = context.getLocalProperty(DESCRIPTION)
    describe_jobs(context, description)
    try:
        yield
    finally:
        describe_jobs(context, before)
