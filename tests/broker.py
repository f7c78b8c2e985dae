"""A real Kafka broker (KRaft, one node) for tests; its jars come from Maven Central, by the Ivy that Spark brings."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.maven import fetched_jars

KAFKA_VERSION = "4.0.0"
START_SECONDS = 120


def kafka_jars() -> Path:
    """Directory of the broker's jars, fetched if they are not there."""
    return fetched_jars(f"kafka-{KAFKA_VERSION}", "-dependency", "org.apache.kafka", "kafka_2.13", KAFKA_VERSION)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Broker:
    """A context manager; stop and start keep address and messages.

    listeners: security protocol by the name of each further listener; addresses has where they are
    settings: of the broker, beside its own
    users: passwords by the names of the SCRAM-SHA-256 users
    """

    def __init__(
        self,
        directory: Path,
        *,
        listeners: Mapping[str, str] = MappingProxyType({}),
        settings: Mapping[str, object] = MappingProxyType({}),
        users: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._directory = directory
        self._classpath = f"{kafka_jars()}/*"
        controller = free_port()
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in ("PLAINTEXT", *listeners)}
        self.address = self.addresses["PLAINTEXT"]
        listening = ",".join(f"{name}://{address}" for name, address in self.addresses.items())
        protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **listeners}
        self._configuration = directory / "server.properties"
        directory.mkdir(parents=True, exist_ok=True)
        own = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{listening},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listening,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "log.dirs": directory / "log",
            "num.partitions": 2,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
        }
        self._configuration.write_text("".join(f"{key}={value}\n" for key, value in {**own, **settings}.items()))
        scram = [
            part
            for name, password in users.items()
            for part in ("--add-scram", f"SCRAM-SHA-256=[name={name},password={password}]")
        ]
        identity = ("-t", "MkU3OEVBNTcwNTJENDM2Qg")
        self._java("kafka.tools.StorageTool", "format", *identity, "-c", self._configuration, *scram)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        with (self._directory / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", self._configuration), stdout=output, stderr=output
            )
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, (self._directory / "output.txt").read_text()[-3000:]
            assert time.monotonic() < deadline, "the broker did not start"
            with socket.socket() as client:
                if client.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _java(self, *arguments: object) -> None:
        subprocess.run(self._command(*arguments), check=True, capture_output=True, timeout=START_SECONDS)

    def _command(self, *arguments: object) -> list[str]:
        quick = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return ["java", *quick, "-cp", self._classpath, *map(str, arguments)]
