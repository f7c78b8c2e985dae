"""Where a job's live query takes its metric events from: the event files of --runs_dir, or a Kafka topic."""

from collections.abc import Callable
from functools import partial

from pyspark.sql import DataFrame, SparkSession

from conf.options.live import LiveQueryOptions
from streaming.kafka import KAFKA_PACKAGE, kafka_lines
from streaming.live import file_lines
from streaming.writer import EVENTS_DIRECTORY


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
