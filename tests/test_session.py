"""The Spark session (spark_jobs/cluster/session.py): which masters are local, which Java will do, what it opens."""

import gc
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyspark
import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.as_found import activate, session_as_found
from longtail.spark_jobs.cluster.java import check_java
from longtail.spark_jobs.cluster.jvm import _Output
from longtail.spark_jobs.cluster.quick_workers import without_zip
from longtail.spark_jobs.cluster.session import described, spark_session
from longtail.spark_jobs.cluster.settings import (
    PRELOADED_WORKERS,
    QUICK_WORKERS,
    is_local,
    job_settings,
    users_settings,
)
from longtail.streaming.live.kafka_brokers import KafkaAdmin, KafkaConnection
from tests.conftest import RunJob

LISTEN = "0A"  # the state's code in /proc/net/tcp


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A `java` first on PATH that says what it is told to, on standard error as the real one does."""

    def install(says: str, directory: Path = tmp_path / "fake") -> Path:
        java = directory / "java"
        directory.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\n")
        java.chmod(0o755)
        return java

    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'fake'}{os.pathsep}{os.environ['PATH']}")
    return install


def version_line(version: str) -> str:
    return f'openjdk version "{version}" 2024-01-16\nOpenJDK Runtime Environment (build {version}+1)'


def only_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]", "local[4,2]"])
def test_a_master_in_this_process_is_local(master: str) -> None:
    assert is_local(master)


@pytest.mark.parametrize(
    "master", ["local-cluster[2,1,1024]", "spark://127.0.0.1:7077", "yarn", "k8s://https://local", "localhost", ""]
)
def test_a_master_with_executors_of_its_own_is_not_local(master: str) -> None:
    assert not is_local(master)


@pytest.mark.parametrize("version", ["17.0.1", "17", "17-ea", "21", "21.0.2", "117.0.1"])
def test_java_17_and_newer_will_do(fake_java, version: str) -> None:
    fake_java(version_line(version))

    check_java()


def test_the_version_is_found_behind_what_the_jvm_says_first(fake_java) -> None:
    fake_java("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\n" + version_line("17.0.1"))

    check_java()


@pytest.mark.parametrize(
    ("version", "major"), [("11.0.2", "11"), ("1.8.0_292", "8"), ("1.7.0_80", "7"), ("16.0.1", "16"), ("9", "9")]
)
def test_an_older_java_is_refused_in_one_line_that_names_both_versions(fake_java, version: str, major: str) -> None:
    fake_java(version_line(version))

    with pytest.raises(UserError) as error:
        check_java()

    assert re.match(rf"Spark needs Java 17 or newer, java is Java {major}: install Java 17 ", only_line(error))


@pytest.mark.parametrize("says", ["no version here", "", "java: cannot open shared object file"])
def test_a_java_that_tells_no_version_is_refused_in_one_line(fake_java, says: str) -> None:
    fake_java(says)

    with pytest.raises(UserError) as error:
        check_java()

    assert re.match(r"`java -version` does not print a version: install Java 17 ", only_line(error))


def test_a_missing_java_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UserError) as error:
        check_java()

    assert re.match(r"Spark needs Java 17 or newer, and there is no java: install Java 17 ", only_line(error))


def test_java_home_goes_before_path(fake_java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(version_line("17.0.1"))
    home = tmp_path / "home"
    old = fake_java(version_line("11.0.2"), home / "bin")
    monkeypatch.setenv("JAVA_HOME", str(home))

    with pytest.raises(UserError) as error:
        check_java()

    assert f"{old} is Java 11" in only_line(error)


def test_a_new_java_in_java_home_excuses_an_old_one_on_path(
    fake_java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(version_line("1.8.0_292"))
    fake_java(version_line("21.0.1"), tmp_path / "home" / "bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))

    check_java()


def test_a_java_home_without_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which("java"), "the one on PATH must not excuse it: Spark takes JAVA_HOME's"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))

    with pytest.raises(UserError) as error:
        check_java()

    assert f"there is no {tmp_path / 'nowhere' / 'bin' / 'java'}" in only_line(error)


def test_a_java_that_cannot_be_run_is_refused_in_one_line(
    fake_java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = fake_java("", tmp_path / "home" / "bin")
    java.write_bytes(b"\x7fELF of another machine")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))

    with pytest.raises(UserError) as error:
        check_java()

    assert re.match(rf"{java} cannot be run \(.+\): install Java 17 ", only_line(error))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "WARNING: Using incubator modules: jdk.incubator.vector\n"
            'Exception in thread "main" org.apache.spark.SparkException: HADOOP_CONF_DIR must be set.\n'
            "\tat org.apache.spark.deploy.SparkSubmitArguments.error(SparkSubmitArguments.scala:670)\n",
            "HADOOP_CONF_DIR must be set.",
        ),
        (
            "Error occurred during initialization of VM\nInvalid maximum heap size: -Xmxbanana\n"
            "Error: Could not create the Java Virtual Machine.\n",
            "Error occurred during initialization of VM Invalid maximum heap size: -Xmxbanana",
        ),
        ("", ""),
    ],
)
def test_why_java_did_not_start_is_in_what_it_said(said: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(said, hold=True).reason() == reason
    assert capsys.readouterr().err == ""


def test_what_java_says_is_shown_once_it_has_started(capsys: pytest.CaptureFixture[str]) -> None:
    held = output_of("WARNING: a\n", hold=True)
    held.reason()  # which waits until all was read
    held.release()
    assert capsys.readouterr().err == "WARNING: a\n"
    output_of("http://user:hunter2@host\n", hold=False).reason()
    assert capsys.readouterr().err == "http://***@host\n"


def test_a_worker_whose_task_has_failed_already_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ended = (
        'Traceback (most recent call last):\n  File "/x/pyspark/daemon.py", line 264, in manager\n    code = worker()\n'
        "BrokenPipeError: [Errno 32] Broken pipe\n"
    )
    other = ended.replace("BrokenPipeError: [Errno 32] Broken pipe", "KeyError: 1")
    output_of(f"a\n{ended}b\n{other}Traceback (most recent call last):\n", hold=False).reason()
    assert capsys.readouterr().err == f"a\nb\n{other}Traceback (most recent call last):\n"


def output_of(said: str, *, hold: bool) -> _Output:
    """What becomes of a JVM's lines when it has ended."""
    read_end, write_end = os.pipe()
    with open(write_end, "w", encoding="utf-8") as pipe:
        pipe.write(said)
    return _Output(read_end, hold=hold)


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("spark.driver.memory lots", "Invalid maximum heap size: -Xmxlots"),
        ("spark.master k8s://no.such.host:1", "UnknownHostException: "),
    ],
)
def test_settings_with_which_spark_does_not_start_are_one_line(
    longtail: RunJob, tmp_path: Path, settings: str, reason: str
) -> None:
    (tmp_path / "spark-defaults.conf").write_text(settings)
    done = longtail("stats", SPARK_CONF_DIR=str(tmp_path))
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"longtail stats: error: Spark does not start ({reason}")


def test_under_spark_submit_the_job_itself_takes_no_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(SparkContext, "_active_spark_context", None)

    with pytest.raises(UserError) as error:
        spark_session("tests", SparkJobOptions(master="local[2]"))

    assert only_line(error).startswith("give --master to spark-submit")


def test_a_running_session_is_used_by_the_next_job(spark: SparkSession) -> None:
    found = spark_session("another", SparkJobOptions())

    assert found.sparkContext is spark.sparkContext
    assert found.sparkContext.master == "local[4]"


def outside_state(session: SparkSession) -> dict[str, object]:
    """What a job must leave as it found it in a session that somebody else made."""
    context = session.sparkContext
    return {
        "settings": session.conf.getAll,
        "description": context.getLocalProperty("spark.job.description"),
        "pool": context.getLocalProperty("spark.scheduler.pool"),
        "log level": str(context._jvm.org.apache.logging.log4j.LogManager.getRootLogger().getLevel()),
        "root logger": logging.getLogger().level,
        "environment": dict(os.environ),
        "application": context.appName,
        "tags": context.getJobTags(),
    }


@pytest.fixture
def foreign_session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> SparkSession:
    """A session as a notebook has it, with settings of its own."""
    session = spark.newSession()
    session.conf.unset("spark.longtail.session")
    session.conf.unset("spark.sql.constraintPropagation.enabled")
    session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    monkeypatch.setattr(SparkSession, "_instantiatedSession", session)
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    with session_as_found(), described(session, "a notebook's own work"):
        activate(session)
        yield session


def test_somebody_else_s_session_is_left_as_it_is(foreign_session: SparkSession) -> None:
    before = outside_state(foreign_session)

    own = spark_session("stats", SparkJobOptions(), slots=1000)

    assert own.range(3).count() == 3
    assert outside_state(foreign_session) == before
    assert own.sparkContext is foreign_session.sparkContext, "it is not stopped for one with more slots"
    assert own.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
    assert own.conf.get("spark.sql.constraintPropagation.enabled") == "false"
    assert foreign_session.conf.get("spark.sql.constraintPropagation.enabled") == "true"


def test_a_master_other_than_the_running_session_s_is_refused_in_one_line(foreign_session: SparkSession) -> None:
    with pytest.raises(UserError) as error:
        spark_session("stats", SparkJobOptions(master="local[2]"))

    assert only_line(error) == (
        "--master local[2]: a Spark session with the master local[4] is running in this process: "
        "leave --master out, or stop that session first"
    )
    assert spark_session("stats", SparkJobOptions(master="local[4]")).range(1).count() == 1


def test_a_job_in_a_running_session_leaves_its_description(spark: SparkSession) -> None:
    with described(spark, "what the user does"):
        spark_session("theory", SparkJobOptions())

        assert spark.sparkContext.getLocalProperty("spark.job.description") == "what the user does"


def test_a_session_without_kafka_s_connector_is_told_how_to_get_it(spark: SparkSession) -> None:
    with pytest.raises(UserError) as error, KafkaAdmin(spark, KafkaConnection("127.0.0.1:9")):
        pass

    assert only_line(error) == (
        "the Spark session has no Kafka connector: start it with spark.jars.packages, or spark-submit with --packages, "
        f"set to org.apache.spark:spark-sql-kafka-0-10_2.13:{spark.version}"
    )


def test_the_user_s_spark_defaults_go_before_longtail_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spark-defaults.conf").write_text(
        "# spark.comment 1\n\nspark.driver.memory   40g \nspark.master=yarn\n  spark.a: -Dx=1 -Dy=2\nspark.empty\n"
    )
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))

    assert users_settings() == {
        "spark.driver.memory": "40g", "spark.master": "yarn", "spark.a": "-Dx=1 -Dy=2", "spark.empty": "",
    }  # fmt: skip
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path / "nowhere"))
    assert users_settings() == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--master yarn --conf spark.ui.port=1 pyspark-shell", {"spark.master": "yarn", "spark.ui.port": "1"}),
        ("--conf=spark.a=-Db=c --driver-memory=3g", {"spark.a": "-Db=c", "spark.driver.memory": "3g"}),
        ("-c 'spark.a=x y' --name mine", {"spark.a": "x y", "spark.app.name": "mine"}),
        ("--packages g:a:1 --driver-java-options '-Dx'", {
            "spark.jars.packages": "g:a:1", "spark.driver.extraJavaOptions": "-Dx",
        }),
        ("--conf 'unmatched", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_the_arguments_of_the_jvm_are_the_user_s_settings_too(
    arguments: str, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", arguments)

    assert users_settings() == expected


def test_arguments_go_before_the_file_and_the_file_before_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.driver.memory 40g\nspark.master yarn\n")
    (tmp_path / "other.conf").write_text("spark.app.name other\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("SPARK_DRIVER_MEMORY", "5g")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[3] pyspark-shell")

    assert users_settings() == {"spark.driver.memory": "40g", "spark.master": "local[3]"}
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--properties-file {tmp_path}/other.conf pyspark-shell")
    assert users_settings() == {"spark.driver.memory": "5g", "spark.app.name": "other"}


def test_what_the_user_has_set_is_not_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    options = SparkJobOptions()
    users = {"spark.scheduler.mode": "FIFO", "spark.driver.memory": "40g", "spark.sql.session.timeZone": "Asia/Tokyo"}

    own = job_settings(options, users, local=True, submitted=False)
    submitted = job_settings(options, users, local=True, submitted=True)

    assert not own.keys() & users.keys() and "spark.driver.extraJavaOptions" in own
    assert submitted.keys() - own.keys() == {"spark.driver.host", "spark.driver.bindAddress"}
    module, traces = "spark.python.daemon.module", "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled"
    of_own_jvm = {"spark.driver.extraJavaOptions", module, traces}
    assert own.keys() - submitted.keys() == of_own_jvm, "spark-submit's JVM runs already"
    # Workers that load PyTorch once are for local jobs with networks, in a JVM that has this process's packages.
    with_networks = [
        job_settings(options, users, local=local, submitted=submitted, networks=True)
        for users, local, submitted in (
            ({}, True, False),
            ({module: "own"}, True, False),
            ({}, False, False),
            ({}, True, True),
        )
    ]
    assert [settings.get(module) for settings in with_networks] == [PRELOADED_WORKERS, None, None, None]
    assert own[module] == QUICK_WORKERS
    chosen = job_settings(options, {"spark.driver.host": "here"}, local=True, submitted=True)
    assert not chosen.keys() & {"spark.driver.host", "spark.driver.bindAddress"}
    assert "spark.driver.host" not in job_settings(options, {}, local=False, submitted=True)


def test_workers_of_a_job_with_networks_start_with_pytorch_loaded(spark: SparkSession) -> None:
    def state(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # What the daemon had loaded before it forked is frozen; the rest is looked through after each task.
        loaded = {"torch", "torch._dynamo"} <= sys.modules.keys()
        counts = {"frozen": [gc.get_freeze_count()], "rest": [len(gc.get_objects())]}
        yield pa.RecordBatch.from_pydict({"torch": [loaded], **counts})

    rows = spark.range(4).mapInArrow(state, "torch boolean, frozen long, rest long").collect()
    assert all(row.torch and row.frozen > 100_000 and row.rest < 20_000 for row in rows), rows


def test_workers_of_a_job_without_networks_start_with_what_each_task_uses_loaded_and_frozen() -> None:
    code = (
        "import gc, sys, pyspark.daemon; pyspark.daemon.manager = lambda: None; "
        "from longtail.spark_jobs.cluster.quick_workers import serve; serve(); "
        "print([name in sys.modules for name in ('torch', 'pandas', 'pyspark.worker')], gc.get_freeze_count() > 50_000)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[False, True, True] True"


def test_workers_of_a_local_session_are_of_one_daemon_with_pyspark_from_the_installed_package(
    spark: SparkSession,
) -> None:
    def state(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"parent": [os.getppid()], "file": [sys.modules["pyspark"].__file__]})

    frames = spark.range(2).mapInArrow(state, "parent long, file string")
    workers = [*frames.collect(), *frames.mapInArrow(lambda batches: batches, frames.schema, barrier=True).collect()]
    of_rdd = spark.sparkContext.parallelize([0, 1]).map(lambda _: (os.getppid(), sys.modules["pyspark"].__file__))
    assert {*map(tuple, workers), *of_rdd.collect()} == {(workers[0].parent, pyspark.__file__)}


def test_the_zip_file_of_an_installed_pyspark_is_left_out_and_no_other() -> None:
    zip_file = "/home/pyspark/python/lib/pyspark.zip"
    assert without_zip([zip_file, "/home", "/other"]) == ["/home", "/other"]
    assert without_zip([zip_file, "/other", ""]) == [zip_file, "/other", ""]


def test_a_local_session_listens_on_this_machine_only(spark: SparkSession) -> None:
    jvm = spark._jvm.java.lang.ProcessHandle.current().pid()
    own_sockets = {os.readlink(file) for file in Path(f"/proc/{jvm}/fd").iterdir() if file.is_symlink()}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{jvm}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTEN and f"socket:[{columns[9]}]" in own_sockets:
                addresses.add(columns[1].partition(":")[0])

    # 127.0.0.1, as the kernel prints it in the IPv4 and (mapped) in the IPv6 table.
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
