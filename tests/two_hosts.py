"""Two hosts on one machine: network namespaces joined by a cable (veth), each with a name and file systems of its own.

On each host, /etc/hosts resolves the host's own name to 127.0.1.1, as Debian does, and the directories that are named
`private` are empty file systems of the host's own. Needs root.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import MARK, SPARK_CLASS, ancestors, marked_processes, quick_java

ADDRESSES = ("10.231.77.1", "10.231.77.2")
PORT, UI_PORT = 7077, 8080


def why_not() -> str:
    """Why this machine cannot be two hosts; empty if it can."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        return "namespaces need root, ip, nsenter and unshare"
    name = f"lt{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made.stderr.strip()


def environment_of_host() -> dict[str, str]:
    """This process's, but for what a Spark session in it has set for the loopback."""
    return {name: value for name, value in os.environ.items() if name != "SPARK_LOCAL_IP"}


@dataclass(frozen=True)
class Host:
    """A host: its name, its address on the cable, its network namespace, and its /etc/hosts."""

    name: str
    address: str
    namespace: str
    hosts_file: Path

    def command(self, command: Sequence[object], *, private: Sequence[Path] = ()) -> list[str]:
        """The command line that runs a command on this host; private: directories that it has for itself, empty."""
        script = [f"mount --bind {self.hosts_file} /etc/hosts", f"hostname {self.name}"]
        # No name server can be asked from here: without this, each question would wait for an answer.
        script += ["mount --bind /dev/null /etc/resolv.conf"]
        script += [f"mount -t tmpfs none {directory}" for directory in private]
        return [
            "nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", "--uts", "--propagation", "private",
            "sh", "-c", f"{' && '.join(script)} && exec \"$@\"", "sh", *map(str, command),
        ]  # fmt: skip


class TwoHosts:
    """A standalone master on the first of two hosts, and workers of one core on both; `url` is the master's."""

    def __init__(self, directory: Path, hosts: Sequence[Host], mark: str) -> None:
        self.hosts = hosts
        self.url = f"spark://{ADDRESSES[0]}:{PORT}"
        self._directory, self._mark = directory, mark
        self._environment = {
            **environment_of_host(),
            "SPARK_WORKER_DIR": str(directory / "work"),
            "SPARK_NO_DAEMONIZE": "1",
            "JDK_JAVA_OPTIONS": quick_java(),
            MARK: mark,
        }
        self._log = (directory / "log").open("w")
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        master = ["org.apache.spark.deploy.master.Master", "--host", ADDRESSES[0]]
        self._processes = [
            self._start(hosts[0], [*master, "--port", PORT, "--webui-port", UI_PORT], private=(), environment={})
        ]

    def add_worker(self, host: Host, *, private: Sequence[Path], **environment: str) -> None:
        """Start a worker on a host, and return when the master has it."""
        worker = ["org.apache.spark.deploy.worker.Worker", "--host", host.address, "--cores", 1, "--memory", "1g"]
        wanted = self._alive_workers() + 1
        started = self._start(host, [*worker, "--webui-port", 0, self.url], private=private, environment=environment)
        self._workers[host.name] = started
        self._processes.append(started)
        deadline = time.monotonic() + 120
        while self._alive_workers() < wanted:
            assert time.monotonic() < deadline, (self._directory / "log").read_text()[-4000:]
            time.sleep(0.3)

    def kill_worker(self, host: Host) -> None:
        """SIGKILL to the worker of a host and everything under it."""
        worker = self._workers.pop(host.name)
        under_it = [pid for pid in marked_processes(self._mark) if worker.pid in ancestors(pid)]
        for pid in [worker.pid, *under_it]:  # the worker first: it would start another executor
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        worker.wait()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for pid in marked_processes(self._mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._log.close()

    def _start(
        self, host: Host, command: Sequence[object], *, private: Sequence[Path], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            host.command([SPARK_CLASS, *command], private=private),
            env={**self._environment, **environment},
            cwd=self._directory,
            stdout=self._log,
            stderr=self._log,
        )

    def _alive_workers(self) -> int:
        """As the master's page says, which is asked from its own host."""
        script = f"import urllib.request; print(urllib.request.urlopen('http://{ADDRESSES[0]}:{UI_PORT}/json/').read().decode())"
        asked = subprocess.run(self.hosts[0].command(["python3", "-c", script]), capture_output=True, text=True)
        return json.loads(asked.stdout)["aliveworkers"] if asked.returncode == 0 else 0


@contextmanager
def two_hosts(directory: Path) -> Iterator[TwoHosts]:
    """Two hosts with a master, and as yet no workers."""
    mark = uuid.uuid4().hex[:6]
    hosts = []
    for number, address in enumerate(ADDRESSES):
        name = f"host{number}-{mark}"
        file = directory / name
        others = "".join(f"{other}\thost{place}-{mark}\n" for place, other in enumerate(ADDRESSES) if place != number)
        file.write_text(f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n{others}")
        hosts.append(Host(name, address, name, file))
    cables = [f"lt{mark}{number}" for number in range(2)]
    try:
        for host in hosts:
            _ip("netns", "add", host.namespace)
        _ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for host, cable in zip(hosts, cables, strict=True):
            _ip("link", "set", cable, "netns", host.namespace)
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", cable)
            _ip("-n", host.namespace, "link", "set", cable, "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        cluster = TwoHosts(directory, hosts, mark)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
