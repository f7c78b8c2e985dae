"""Asks Kafka's brokers what a query needs to know before it starts, each question with a time limit.

First without Spark whether any of them listens, since that takes a moment; then by Kafka's own admin client in Spark's
JVM, with the user's settings.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

from py4j.java_gateway import JavaPackage
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.suggestions import did_you_mean

CONNECT_SECONDS = 4
"""For all brokers together: they are asked at the same time."""
ANSWER_SECONDS = 5
"""For each answer to the admin client. With CONNECT_SECONDS and Spark's start, a job ends within 15 s."""
LOOK_SECONDS = 1
"""Between two looks whether a topic is there."""
DEFAULT_REQUEST_BYTES = 1 << 20
"""Kafka's default of max.request.size."""


@dataclass(frozen=True)
class KafkaConnection:
    """The brokers, HOST:PORT separated by commas, and the settings of Kafka's client, secrets among them, by key."""

    bootstrap_servers: str
    settings: dict[str, str] = field(default_factory=dict, repr=False)

    def options(self) -> dict[str, str]:
        """The options of Spark's reader and writer."""
        settings = {f"kafka.{key}": value for key, value in self.settings.items()}
        return {"kafka.bootstrap.servers": self.bootstrap_servers, **settings}


def check_reachable(bootstrap_servers: str) -> None:
    """Raise UserError unless one of the brokers accepts a connection within CONNECT_SECONDS."""
    servers = [_host_and_port(server.strip()) for server in bootstrap_servers.split(",")]
    answers: Queue[str] = Queue()
    for host, port in servers:
        threading.Thread(target=lambda h=host, p=port: answers.put(_failure(h, p)), daemon=True).start()
    failures = []
    deadline = time.monotonic() + CONNECT_SECONDS
    for _ in servers:
        try:
            failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            failure = f"no answer in {CONNECT_SECONDS} s"
        if not failure:
            return
        failures.append(failure)
    raise UserError(
        f"--bootstrap_servers {bootstrap_servers}: cannot reach {'any of them' if len(servers) > 1 else 'it'} "
        f"({'; '.join(dict.fromkeys(failures))}): start the broker, or correct the address"
    )


def _host_and_port(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or "@" in host:
        raise UserError(
            f"--bootstrap_servers {server}: HOST:PORT was expected; user and password go into --kafka_option"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _failure(host: str, port: int) -> str:
    """Why a connection fails; empty if it does not."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return ""


class KafkaAdmin:
    """Kafka's admin client, for the time of a `with` block.

    Raises UserError in one line for settings that Kafka refuses, and for brokers that refuse the user or do not answer.
    """

    def __init__(self, spark: SparkSession, kafka: KafkaConnection) -> None:
        self._kafka, self._spark_version = kafka, spark.version
        # Objects of the JVM have no static type.
        self._jvm: Any = spark.sparkContext._jvm
        self._client: Any = None

    def __enter__(self) -> "KafkaAdmin":
        self._check_connector()
        self._check_names()
        with self._one_line():
            self._client = self._jvm.org.apache.kafka.clients.admin.AdminClient.create(self._properties())
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close(self._jvm.java.time.Duration.ofSeconds(1))

    def cluster_id(self) -> str:
        """The identity of the cluster, whatever its addresses are."""
        return self._answer(self._client.describeCluster().clusterId())

    def has_topic(self, topic: str) -> bool:
        """Whether the topic is there, and these settings' user may see it."""
        return self._answer(self._client.listTopics().names()).contains(topic)

    def create_as_configured(self, topic: str) -> None:
        """Ask the brokers for a topic in the way of a producer: they create it if they are configured to."""
        properties = self._properties()
        properties.setProperty("max.block.ms", str(1000 * LOOK_SECONDS))
        serializer = self._jvm.org.apache.kafka.common.serialization.StringSerializer
        producer = self._jvm.org.apache.kafka.clients.producer.KafkaProducer(properties, serializer(), serializer())
        try:
            producer.partitionsFor(topic)
        except Py4JJavaError:
            pass  # it is not there, and has_topic will say so
        finally:
            producer.close(self._jvm.java.time.Duration.ofSeconds(1))

    def max_message_bytes(self, topic: str) -> int:
        """The longest message that the client sends and the topic takes: key, text and Kafka's own bytes."""
        by_client = int(self._kafka.settings.get("max.request.size", DEFAULT_REQUEST_BYTES))
        resources = self._jvm.org.apache.kafka.common.config
        resource = resources.ConfigResource(resources.ConfigResource.Type.valueOf("TOPIC"), topic)
        found = self._client.describeConfigs(self._jvm.java.util.Collections.singleton(resource)).all()
        try:
            by_topic = int(self._answer(found).get(resource).get("max.message.bytes").value())
        except UserError:  # not every user may see the configuration: then Kafka's default
            by_topic = DEFAULT_REQUEST_BYTES
        return min(by_client, by_topic)

    def _properties(self) -> Any:
        properties = self._jvm.java.util.Properties()
        own = {
            "bootstrap.servers": self._kafka.bootstrap_servers,
            "default.api.timeout.ms": str(1000 * ANSWER_SECONDS),
            "request.timeout.ms": str(1000 * ANSWER_SECONDS),
        }
        for key, value in {**self._kafka.settings, **own}.items():
            properties.setProperty(key, value)
        return properties

    def _check_connector(self) -> None:
        # py4j takes a class that is not there for a package.
        if isinstance(self._jvm.org.apache.kafka.clients.admin.AdminClient, JavaPackage):
            raise UserError(
                "the Spark session has no Kafka connector: start it with spark.jars.packages, or spark-submit with "
                f"--packages, set to org.apache.spark:spark-sql-kafka-0-10_2.13:{self._spark_version}"
            )

    def _check_names(self) -> None:
        """Refuse a setting that Kafka does not know if it is nearly one that it knows: Kafka would ignore it."""
        clients = self._jvm.org.apache.kafka.clients
        known = {*clients.consumer.ConsumerConfig.configNames(), *clients.producer.ProducerConfig.configNames()}
        known |= set(clients.admin.AdminClientConfig.configNames())
        for key in self._kafka.settings:
            # Other names are possible: plug-ins of Kafka's client have settings of their own.
            if key not in known and (hint := did_you_mean(key, known, likeness=0.9)):
                raise UserError(f"Kafka has no setting {key}{hint}")

    def _answer(self, future: Any) -> Any:
        with self._one_line():
            return future.get(ANSWER_SECONDS + 1, self._jvm.java.util.concurrent.TimeUnit.SECONDS)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except Py4JJavaError as error:
            raise UserError(self._message(error.java_exception)) from None

    def _message(self, exception: Any) -> str:
        causes: list[tuple[str, str]] = []
        while exception is not None and len(causes) < 20:
            causes.append((exception.getClass().getSimpleName(), exception.getMessage() or ""))
            exception = exception.getCause()
        names = [name for name, _ in causes]
        last = next((message for _, message in reversed(causes) if message), names[-1])
        servers = self._kafka.bootstrap_servers
        if any("Timeout" in name for name in names):
            protocol = self._kafka.settings.get("security.protocol", "PLAINTEXT")
            return (
                f"the Kafka brokers {servers} accept connections, but do not answer within {ANSWER_SECONDS} s: is "
                f"security.protocol={protocol} theirs, and can this machine reach the addresses that they advertise?"
            )
        if any("Authentication" in name or "Authorization" in name or "SSL" in name for name in names):
            return f"the Kafka brokers {servers} and this client do not trust each other: {last}; see --kafka_option"
        return f"the Kafka settings for {servers} do not work: {last}; see --kafka_option"


def wait_for_topic(admin: KafkaAdmin, topic: str, *, say: Callable[[str], None], create: bool) -> None:
    """Return when the topic is there; say once that it is being waited for.

    create: ask for it as a producer does, which creates it where the brokers do that
    """
    said = False
    while not admin.has_topic(topic):
        if create:
            admin.create_as_configured(topic)
            if admin.has_topic(topic):
                return
        if not said:
            say(
                f"waiting for the topic {topic}, which is not there"
                + (", and which the brokers do not create by themselves" if create else "")
                + " (or which this user may not see)"
            )
            said = True
        time.sleep(LOOK_SECONDS)
