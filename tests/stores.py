"""Real stores for tests: an S3 server (moto), and an HDFS cluster of one node whose jars come from Maven Central.

Both are processes of their own and hold nothing when they start.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from tests.broker import free_port
from tests.maven import SPARK_JARS, fetched_jars

START_SECONDS = 180
HADOOP_VERSION = "3.5.0"
BUCKET = "longtail-tests"
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-the-tests", "AWS_SECRET_ACCESS_KEY": "of-no-use-elsewhere"}


@dataclass(frozen=True)
class Store:
    """Where a store is, and what clients need.

    url: an existing directory of the store, as a user writes it
    spark_settings: of spark-defaults.conf
    environment: variables that Python's driver reads; they must be set before its first use
    """

    url: str
    spark_settings: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def process_environment(self, directory: Path) -> dict[str, str]:
        """Variables for a process of Longtail, whose spark-defaults.conf is written into ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name} {value}\n" for name, value in self.spark_settings.items())
        (directory / "spark-defaults.conf").write_text(lines)
        return {**self.environment, "SPARK_CONF_DIR": str(directory)}


@contextmanager
def s3_store(directory: Path) -> Iterator[Store]:
    """A server for S3 with one bucket. Its lines of output are in ``directory``."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    settings = {
        "spark.jars": ",".join(map(str, sorted(s3a_jars().iterdir()))),
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.access.key": KEYS["AWS_ACCESS_KEY_ID"],
        "spark.hadoop.fs.s3a.secret.key": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with running(command, directory, is_ready=lambda: answers(f"{endpoint}/moto-api/data.json")):
        urlopen(Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=START_SECONDS).close()
        yield Store(f"s3a://{BUCKET}", settings, environment)


@contextmanager
def hdfs_store(directory: Path) -> Iterator[Store]:
    """An HDFS cluster: a name node and one data node in one process. Its files and its output are in ``directory``."""
    request = ("-dependency", "org.apache.hadoop", "hadoop-client-minicluster", HADOOP_VERSION, "-notransitive")
    jar = fetched_jars(f"minicluster-{HADOOP_VERSION}", *request) / f"hadoop-client-minicluster-{HADOOP_VERSION}.jar"
    port, details = free_port(), directory / "details.json"
    command = [
        "java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jar}:{SPARK_JARS}/*",
        "org.apache.hadoop.test.MiniDFSClusterManager", "-format", "-datanodes", 1, "-nnport", port,
        "-D", "dfs.replication=1", "-D", f"hdfs.minidfs.basedir={directory / 'hdfs'}",
        "-D", "dfs.permissions.enabled=false", "-writeDetails", details,
    ]  # fmt: skip
    with running(command, directory, is_ready=lambda: _has_json(details)):
        yield Store(f"hdfs://127.0.0.1:{port}", {})


def s3a_jars() -> Path:
    """Directory of the jars of Spark's driver for s3a://."""
    return fetched_jars(f"s3a-{HADOOP_VERSION}", "-ivy", Path(__file__).with_name("s3a.xml"))


@contextmanager
def running(command: list[object], directory: Path, *, is_ready: Callable[[], bool]) -> Iterator[None]:
    """A server and the processes that it starts, for as long as the block. Its output is in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "output.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=directory, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"the server did not start: {log.read_text()[-3000:]}"
            time.sleep(0.1)
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    """Whether a server answers a request for the URL."""
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _has_json(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text()))
    except (OSError, ValueError):
        return False
