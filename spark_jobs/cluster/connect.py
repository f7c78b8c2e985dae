"""Jobs over Spark Connect: what they read and write are DataFrames only, for which a server somewhere else will do.

Everything else needs the driver in its own process: barrier stages, streaming queries and their slots.
"""

import os
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkImportError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.utils import is_remote

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import redacted
from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.code_zip import write_code_zip
from longtail.spark_jobs.cluster.settings import OWN_SESSION, is_local, query_settings

CONNECT_JOBS = ("stats", "evaluate", "gen_pseudolabels", "predict")
ANSWER_SECONDS = 10
_DEFAULT_PORT = 15002
_HOST_AND_PORT = re.compile(r"sc://(\[[^\]]+\]|[^:/;]+)(?::(\d+))?")
_ROWS_FOR_EVERY_SLOT = 1_000_000


def connects(options: SparkJobOptions) -> bool:
    """Whether a job of these options runs over Spark Connect: by --remote, SPARK_REMOTE, or the session that runs."""
    return options.remote is not None or "SPARK_REMOTE" in os.environ or is_remote()


def check_runs_over_connect(job: str, options: SparkJobOptions) -> None:
    """Raise UserError if the job is to run over Spark Connect and cannot."""
    if job in CONNECT_JOBS or not connects(options):
        return
    chosen = "--remote" if options.remote else "SPARK_REMOTE" if "SPARK_REMOTE" in os.environ else "the Spark session"
    raise UserError(
        f"{job} does not run over Spark Connect, which {chosen} asks for; {', '.join(CONNECT_JOBS)} do: "
        f"use a Spark session with the driver in this process (--master)"
    )


def connect_session(options: SparkJobOptions) -> SparkSession:
    """A session of longtail's own on the server, with the settings of the user's if there is one.

    Raises UserError if the packages for Spark Connect are missing, or if no server answers.
    """
    if options.master is not None:
        raise UserError("--master is for a driver in this process, Spark Connect has its own: leave one of them out")
    own = _own_session(running) if (running := running_connect_session()) is not None else _new_session(options)
    if own.conf.get(OWN_SESSION, None) is None:
        users = own.conf.getAll
        for key, value in query_settings(local=is_local(own.conf.get("spark.master", ""))).items():
            if key not in users and own.conf.isModifiable(key):
                own.conf.set(key, value)
        own.conf.set(OWN_SESSION, "true")
        _send_code(own)
    return own


def running_connect_session() -> Any:  # PySpark's two classes of sessions have the same methods, but no common type
    """The user's session with a server; None if there is none."""
    if "pyspark.sql.connect.session" not in sys.modules:
        return None
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    return ConnectSession.getActiveSession() or ConnectSession._get_default_session()


def default_parallelism(spark: SparkSession) -> int:
    """Tasks that Spark makes of what does not say how many: as many as the slots, unless the user decides otherwise."""
    if not is_remote():
        return spark.sparkContext.defaultParallelism
    return num_partitions(spark.range(_ROWS_FOR_EVERY_SLOT))


def num_partitions(frame: DataFrame) -> int:
    """The partitions of a DataFrame; over Spark Connect, where its RDD is out of sight, those with rows."""
    if not is_remote():
        return frame.rdd.getNumPartitions()
    return frame.select(F.spark_partition_id().alias("partition")).distinct().count()


def _own_session(running: Any) -> Any:
    is_own = running.conf.get(OWN_SESSION, None) is not None
    return running if is_own else running.cloneSession()


def _new_session(options: SparkJobOptions) -> SparkSession:
    url = options.remote or os.environ["SPARK_REMOTE"]
    _check_answers(url)
    try:
        return SparkSession.builder.remote(url).getOrCreate()
    except (ImportError, PySparkImportError):
        raise UserError("Spark Connect needs further packages: pip install 'longtail[connect]'") from None


def _check_answers(url: str) -> None:
    """Raise UserError if nobody listens there: Spark's client would try again for minutes."""
    found = _HOST_AND_PORT.match(url)
    if found is None:  # local[...], by which Spark starts a server itself
        return
    host, port = found[1].strip("[]"), int(found[2] or _DEFAULT_PORT)
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        raise UserError(
            f"no Spark Connect server at {redacted(f'{host}:{port}')} ({reason}): start one "
            f"(sbin/start-connect-server.sh), or name another with --remote sc://HOST:PORT"
        ) from None


def _send_code(spark: Any) -> None:
    """Give the tasks the code of this process, in whatever version the server's machines have it, or not at all."""
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "longtail.zip"
        write_code_zip(archive)
        spark.addArtifacts(str(archive), pyfile=True)
