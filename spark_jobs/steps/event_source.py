"""The source of a live query's metric events: the event files in --runs_dir, or a Kafka topic."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from longtail.conf.options.live import LiveQueryOptions
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.live.kafka import KAFKA_PACKAGE, kafka_lines
from longtail.streaming.live.query import file_lines


def packages_of(options: LiveQueryOptions) -> tuple[str, ...]:
    """Maven coordinates that the session needs in addition to Spark."""
    return (KAFKA_PACKAGE,) if options.source == "kafka" else ()


def lines_of(options: LiveQueryOptions) -> Callable[[SparkSession], DataFrame]:
    """A function that creates the streaming DataFrame of event lines in a session."""
    if options.source == "kafka":
        assert options.bootstrap_servers is not None, "the options are validated"
        return partial(kafka_lines, bootstrap_servers=options.bootstrap_servers, topic=options.topic)
    return partial(file_lines, events_dir=options.runs_dir / EVENTS_DIRECTORY)


def description_of(options: LiveQueryOptions) -> str:
    """The source, for a message."""
    return f"the topic {options.topic}" if options.source == "kafka" else str(options.runs_dir / EVENTS_DIRECTORY)


def runs_dir_of(options: LiveQueryOptions) -> Path | None:
    """The directory of the runs with their heartbeats; None if the events come from elsewhere."""
    return options.runs_dir if options.source == "files" else None
