"""The archive of Spark's classes (spark_jobs/cluster/class_archive.py): written once, used where it fits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtail.spark_jobs.cluster.class_archive import ClassArchive, class_archive
from longtail.spark_jobs.cluster.java import check_java

JAVA = 'openjdk version "17.0.1" 2024-01-16\nOpenJDK 64-Bit Server VM (build 17.0.1+1, mixed mode, sharing)\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("PYSPARK_SUBMIT_ARGS", "JAVA_TOOL_OPTIONS", "SPARK_CONF_DIR", "HADOOP_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "longtail"


def archive(java: str = JAVA, memory: str = "2g") -> ClassArchive | None:
    return class_archive(java, driver_memory=memory)


def end(archive: ClassArchive | None, jvm: str, *, written: bytes) -> None:
    """The JVM, here a program of Python, writes so many bytes and ends."""
    assert archive is not None and archive.unfinished is not None and archive.lock is not None
    archive.unfinished.write_bytes(written)
    archive._end(subprocess.Popen([sys.executable, "-c", jvm], stdin=subprocess.PIPE))
    archive.lock.close()


def used(archive: ClassArchive | None) -> bool:
    return archive is not None and "SharedArchiveFile" in archive.java_options


def test_the_first_session_writes_it_and_the_next_uses_it(cache: Path) -> None:
    first = archive()
    assert first is not None and "ArchiveClassesAtExit" in first.java_options and not used(first)
    assert archive() is None, "a second session while the first still writes goes without"

    end(first, "import sys; sys.stdin.read()", written=b"classes")

    assert used(archive())
    assert [file.name.rpartition("-")[2] for file in cache.glob("*.jsa")] == ["7.jsa"]


def test_another_java_another_spark_and_another_heap_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    end(archive(), "", written=b"classes")
    assert used(archive())

    assert not used(archive(java=JAVA.replace("17.0.1", "17.0.2")))
    assert not used(archive(memory="64g"))
    monkeypatch.setenv("SPARK_HOME", "/opt/spark")
    assert not used(archive())


def test_what_was_cut_short_is_not_used(cache: Path) -> None:
    end(archive(), "", written=b"classes")
    (file,) = cache.glob("*.jsa")
    file.write_bytes(b"class")

    assert not used(archive())


def test_a_jvm_that_fails_as_it_writes_is_not_asked_again() -> None:
    end(archive(), "raise SystemExit(1)", written=b"cl")

    assert archive() is None


def test_a_jvm_that_is_killed_leaves_it_to_the_next(cache: Path) -> None:
    end(archive(), "import os; os.kill(os.getpid(), 9)", written=b"cl")

    assert list(cache.glob("*.jsa")) == []
    assert archive() is not None
    (left,) = cache.glob("*.unfinished")
    os.utime(left, (0, 0))
    archive()
    assert list(cache.glob("*.unfinished")) == []


@pytest.mark.parametrize(
    "variable", ["JAVA_TOOL_OPTIONS=-Xshare:off", "PYSPARK_SUBMIT_ARGS=--driver-class-path a pyspark-shell",
    "PYSPARK_SUBMIT_ARGS=--driver-memory 40g pyspark-shell", "HADOOP_CONF_DIR=/etc/hadoop", "SPARK_CONF_DIR=.",
    "XDG_CACHE_HOME=/proc/none", "XDG_CACHE_HOME=/tmp/with spaces"],
)  # fmt: skip
def test_there_is_none_where_a_jvm_could_not_write_or_use_it(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)

    assert archive() is None


def test_there_is_none_for_a_java_without_the_feature() -> None:
    assert archive(java=JAVA.replace(", sharing", "")) is None


def test_there_is_none_in_a_directory_that_others_can_write(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)

    assert archive() is None


START = """
import sys
from pathlib import Path
from longtail.conf.options.base import SparkJobOptions
from longtail.spark_jobs.cluster.session import spark_session
spark = spark_session("start", SparkJobOptions(master="local[1]"))
jvm = spark._jvm.java.lang.ProcessHandle.current().pid()
maps = Path(f"/proc/{jvm}/maps").read_text()
options = spark.conf.get("spark.driver.extraJavaOptions").split()
print(spark.range(3).count(), "/longtail/spark-" in maps, {"-Dmine=1", "-XX:TieredStopAtLevel=1"} & {*options})
"""


def start() -> str:
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.long
def test_the_jvm_writes_and_maps_it_and_starts_without_one_that_does_not_fit(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start() == "3 False {'-XX:TieredStopAtLevel=1'}\n"
    (file,) = cache.glob("*.jsa")
    assert start() == "3 True {'-XX:TieredStopAtLevel=1'}\n"

    file.write_bytes(bytes(file.stat().st_size))
    damaged = class_archive(check_java(), driver_memory="2g")
    assert damaged is not None and used(damaged)
    plain, mapping = (
        subprocess.run(["java", *options, "-version"], capture_output=True, text=True, check=True)
        for options in ([], damaged.java_options.split())
    )
    assert ", sharing" in plain.stderr
    without = plain.stderr.replace(", sharing", "")
    assert (mapping.stdout, mapping.stderr) == (plain.stdout, without), (
        "the JVM finds that it is none, and says nothing"
    )

    file.unlink()
    settings = tmp_path / "conf"
    settings.mkdir()
    (settings / "spark-defaults.conf").write_text("# mine\nspark.driver.extraJavaOptions  -Dmine=1\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(settings))
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=300)
    assert done.stdout == "3 False {'-Dmine=1'}\n", "the user's own options win"
    assert list(cache.glob("*.jsa")) == []
