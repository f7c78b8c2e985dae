"""The source of a live query's metric events: the event files in --runs_dir, or a Kafka topic."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.base.locations import Location
from longtail.conf.kafka_settings import kafka_settings
from longtail.conf.options.live import KafkaClientOptions, LiveQueryOptions, RelayOptions
from longtail.streaming.event_files.source import file_lines
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.checkpoint import FILES, topic_source
from longtail.streaming.live.kafka import KAFKA_PACKAGE, kafka_lines
from longtail.streaming.live.kafka_brokers import KafkaAdmin, KafkaConnection, check_reachable, wait_for_topic


@dataclass(frozen=True)
class EventSource:
    """Where a live query's events are from.

    events: directory of event files, or creates the live query's streaming DataFrame of lines in a session
    lines: creates the streaming DataFrame of lines (value, source) of another query, with this checkpoint
    name: what the checkpoint of a query on it belongs to
    """

    events: Location | Callable[[SparkSession], DataFrame]
    lines: Callable[[SparkSession, Path], DataFrame]
    name: str


def packages_of(options: LiveQueryOptions) -> tuple[str, ...]:
    """Maven coordinates that the session needs in addition to Spark."""
    return (KAFKA_PACKAGE,) if options.source == "kafka" else ()


def kafka_connection(options: KafkaClientOptions, bootstrap_servers: str) -> KafkaConnection:
    """The brokers and the settings for them. Without Spark, so that a job that is refused does not start it.

    Raises UserError if a setting cannot be read, or if no broker can be reached.
    """
    settings = kafka_settings(options.kafka_option, options.kafka_config)
    check_reachable(bootstrap_servers)
    return KafkaConnection(bootstrap_servers, settings)


def connection_of(options: LiveQueryOptions) -> KafkaConnection | None:
    """The same, for a live query; None if its source is files."""
    return kafka_connection(options, options.bootstrap_servers) if options.bootstrap_servers else None


def event_source(spark: SparkSession, options: LiveQueryOptions, kafka: KafkaConnection | None) -> EventSource:
    """The source of a live query. Waits for the topic, and says so.

    Raises UserError if the brokers refuse the settings.
    """
    if kafka is None:
        events_dir = options.runs_dir / EVENTS_DIRECTORY
        return EventSource(
            events_dir,
            lambda session, checkpoint: file_lines(session, events_dir, checkpoint),
            FILES,
        )
    name = topic_name(spark, options.topic, kafka)
    read = partial(kafka_lines, kafka=kafka, topic=options.topic)
    return EventSource(read, lambda session, checkpoint: read(session), name)


def topic_name(spark: SparkSession, topic: str, kafka: KafkaConnection) -> str:
    """What a topic is called in a record of what was read, whatever the addresses of its brokers are.

    Waits for the topic, and says so. Raises UserError if the brokers refuse the settings.
    """
    with KafkaAdmin(spark, kafka) as admin:
        wait_for_topic(admin, topic, say=_say, create=False)
        return topic_source(topic, admin.cluster_id())


def destination(spark: SparkSession, options: RelayOptions, kafka: KafkaConnection) -> tuple[str, int]:
    """The relay's topic, as the source that its readers will have, and how many bytes a message may have.

    Waits for the topic as event_source does.
    """
    with KafkaAdmin(spark, kafka) as admin:
        wait_for_topic(admin, options.topic, say=_say, create=True)
        return topic_source(options.topic, admin.cluster_id()), admin.max_message_bytes(options.topic)


def shown_source(options: LiveQueryOptions) -> str:
    """The source, for a message."""
    return f"the topic {options.topic}" if options.source == "kafka" else str(options.runs_dir / EVENTS_DIRECTORY)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
