"""Where a job's live query takes its metric events from: the event files of --runs_dir, or a Kafka topic."""

from collections.abc import Callable
from functools import partial

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.options.live import LiveQueryOptions
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.kafka import KAFKA_PACKAGE, kafka_lines
from longtail.streaming.live.query import file_lines


def packages_of(options: LiveQueryOptions) -> tuple[str, ...]:
    """What the session needs beside Spark."""
    return (KAFKA_PACKAGE,) if options.source == "kafka" else ()


def lines_of(options: LiveQueryOptions) -> Callable[[SparkSession], DataFrame]:
    """Makes the streaming DataFrame of lines in a session."""
    if options.source == "kafka":
        return partial(kafka_lines, bootstrap_servers=options.bootstrap_servers, topic=options.topic)
    return partial(file_lines, events_dir=options.runs_dir / EVENTS_DIRECTORY)


def place_of(options: LiveQueryOptions) -> str:
    """In words."""
    return f"the topic {options.topic}" if options.source == "kafka" else str(options.runs_dir / EVENTS_DIRECTORY)
