"""A real standalone cluster, started from the pip package on loopback, and the processes of a job."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

from longtail.spark_jobs.cluster.settings import PRELOADED_WORKERS

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
REPOSITORY = Path(__file__).parent.parent
LOOPBACK = "127.0.0.1"
MARK = "LONGTAIL_TEST_MARK"
"""An environment variable that every process of a test inherits, so that none is overlooked."""


def quick_java() -> str:
    """Options for a JVM of Spark that a test starts: it lives for seconds, as a local session of longtail does.

    The first compiler tier is enough, and the archive of classes fits, if a session has written it already.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtail"
    archives = sorted(cache.glob(f"spark-{pyspark.__version__}-*.jsa"), key=lambda file: file.stat().st_mtime)
    mapped = [f"-XX:SharedArchiveFile={archives[-1]} -Xlog:cds*=off"] if archives else []
    return " ".join(["-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", *mapped])


def python_path(*directories: Path) -> str:
    """PYTHONPATH with these directories before those that it has."""
    return os.pathsep.join(filter(None, [*map(str, directories), os.environ.get("PYTHONPATH", "")]))


def quick_workers() -> dict[str, str]:
    """The environment of a process whose session's Python workers start with the large packages loaded.

    The tests' own session does so, too: loading torch takes a worker longer than most of what it computes in a test.
    The tests are importable modules there.
    """
    return {
        "PYTHONPATH": python_path(REPOSITORY),
        "PYSPARK_SUBMIT_ARGS": f"--conf spark.python.daemon.module={PRELOADED_WORKERS} pyspark-shell",
    }


def quick_processes() -> dict[str, str]:
    """The environment of a process that starts a Spark session without longtail's options for a quick start."""
    return {**quick_workers(), "PYSPARK_PYTHON": sys.executable, "JDK_JAVA_OPTIONS": quick_java()}


class Cluster:
    """A master and its workers of one core each; `url` is the master's."""

    def __init__(self, directory: Path, *, mark: str = "") -> None:
        self._directory = directory
        self._environment = {
            **os.environ,
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_WORKER_DIR": str(directory),
            "SPARK_NO_DAEMONIZE": "1",
            # Those of the executors, too.
            "JDK_JAVA_OPTIONS": quick_java(),
            MARK: mark,
        }
        self._log = (directory / "log").open("w")
        port, ui_port = free_port(), free_port()
        self.url = f"spark://{LOOPBACK}:{port}"
        self._status_url = f"http://{LOOPBACK}:{ui_port}/json/"
        master = ["org.apache.spark.deploy.master.Master", "--host", LOOPBACK, "--port", port, "--webui-port", ui_port]
        self._processes = [self._start(master)]

    def add_workers(self, number: int, **properties: str) -> None:
        """Start workers, and return when the master has them; properties: of the worker, dots as underscores."""
        worker = ["org.apache.spark.deploy.worker.Worker", "--host", LOOPBACK, "--cores", 1, "--memory", "1g"]
        if properties:
            file = self._directory / "worker.conf"
            file.write_text("".join(f"{key.replace('_', '.')} {value}\n" for key, value in properties.items()))
            worker += ["--properties-file", file]
        wanted = self._alive_workers() + number
        self._processes += [self._start([*worker, "--webui-port", 0, self.url]) for _ in range(number)]
        deadline = time.monotonic() + 300
        while self._alive_workers() < wanted:
            assert time.monotonic() < deadline, "the cluster did not come up"
            time.sleep(0.5)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()

    def reap(self) -> set[int]:
        """The processes of the cluster itself that still run; the killed ones are waited for."""
        return {process.pid for process in self._processes if process.poll() is None}

    def _start(self, command: list[object]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [SPARK_CLASS, *map(str, command)],
            env=self._environment,
            cwd=self._directory,
            stdout=self._log,
            stderr=self._log,
        )

    def _alive_workers(self) -> int:
        try:
            with urllib.request.urlopen(self._status_url, timeout=5) as response:
                return json.load(response)["aliveworkers"]
        except OSError:
            return 0


@contextmanager
def running_cluster(directory: Path, *, num_workers: int, mark: str = "", **properties: str) -> Iterator[Cluster]:
    cluster = Cluster(directory, mark=mark)
    try:
        cluster.add_workers(num_workers, **properties)
        yield cluster
    finally:
        cluster.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def marked_processes(mark: str) -> set[int]:
    """Every process of this machine, zombies apart, that has the mark in its environment."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.add(int(directory.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def ancestors(pid: int) -> list[int]:
    """The parent, its parent, and so on."""
    found = []
    while status := _status(pid):
        pid = status[1]
        if pid <= 1:
            break
        found.append(pid)
    return found


def _status(pid: int) -> tuple[str, int] | None:
    """State and parent of a process; None if it is gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return state, int(parent)


def wait_until_gone(mark: str, *, but: set[int] = frozenset(), seconds: float = 120) -> None:
    """No process with the mark may stay, but those named; what holds no process holds no port."""
    deadline = time.monotonic() + seconds
    while left := marked_processes(mark) - but:
        commands = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200] for pid in left]
        assert time.monotonic() < deadline, f"still running: {commands}"
        time.sleep(0.2)


def kill_worker_of(pid: int, cluster: Cluster) -> None:
    """SIGKILL to the cluster's worker and to the executor under which the Python process `pid` runs."""
    line = ancestors(pid)
    place = next(i for i, ancestor in enumerate(line) if ancestor in cluster.reap())
    os.kill(line[place], signal.SIGKILL)  # the worker first: it would start another executor
    os.kill(line[place - 1], signal.SIGKILL)
    cluster.reap()
