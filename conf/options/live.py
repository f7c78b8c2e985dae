"""The jobs that follow running trainings."""

from pathlib import Path
from typing import Literal

from pydantic import DirectoryPath, FilePath, model_validator

from longtail.conf.options.base import JobOptions, TableFormat, option

EVENTS_TOPIC = "longtail-events"
TRIGGER = "100 milliseconds"
"""To look and find nothing costs some 5 ms of one core."""
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_TRIGGER = r"^\d+ (milli)?seconds?$"


class LiveQueryOptions(JobOptions):
    """Of the jobs that keep result tables by a streaming query."""

    runs_dir: Path = option(Path("runs"), "directory of the runs to watch")
    alerts: FilePath | None = option(None, "YAML file of alert rules instead of conf/alerts.yaml")
    trigger: str = option(TRIGGER, "how often to look for new events", pattern=_TRIGGER)
    source: Literal["files", "kafka"] = option("files", "where events come from: files in --runs_dir, or a Kafka topic")
    bootstrap_servers: str | None = option(None, "with --source kafka: HOST:PORT of its brokers, separated by commas")
    topic: str = option(EVENTS_TOPIC, "with --source kafka: the topic of the events", pattern=_TOPIC)

    @model_validator(mode="after")
    def _kafka_has_brokers(self) -> "LiveQueryOptions":
        if (self.source == "kafka") != (self.bootstrap_servers is not None):
            raise ValueError("--source kafka and --bootstrap_servers HOST:PORT go together")
        return self


class MonitorOptions(LiveQueryOptions):
    """monitor: per-class accuracy of running trainings, by Structured Streaming over their metric events."""

    output_dir: Path | None = option(None, "where the tables are kept; by default analytics/ in --runs_dir")
    run: str | None = option(None, "show only runs whose name contains this")
    once: bool = option(False, "process what is there, show it, and end")
    tensorboard: Path | None = option(None, "directory for TensorBoard scalars of all runs; by default none")
    format: TableFormat = option(
        "parquet",
        "delta: the tables as Delta tables as well, in delta/ beside the others (pip install longtail[delta])",
    )


class RelayOptions(JobOptions):
    """relay: send the metric events of running trainings to a Kafka topic."""

    runs_dir: Path = option(Path("runs"), "directory of the runs whose events to send")
    bootstrap_servers: str = option(..., "HOST:PORT of Kafka's brokers, separated by commas")
    topic: str = option(EVENTS_TOPIC, "topic to send to", pattern=_TOPIC)
    once: bool = option(False, "send what is there, and end")
    trigger: str = option(TRIGGER, "how often to look for new events", pattern=_TRIGGER)


class DashboardOptions(LiveQueryOptions):
    """dashboard: the live page over all runs."""

    runs_dir: Path = option(Path("runs"), "directory of the runs to watch; made if it is not there")
    output_dir: Path | None = option(None, "where the tables are kept; by default dashboard/ in --runs_dir")
    tables_dir: DirectoryPath | None = option(
        None, "show the tables that a monitor keeps here, without a query of the page's own"
    )
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: whoever reaches this machine may read the page")
    port: int = option(8050, "port to listen on; 0: any that is free", ge=0, le=65535)

    @model_validator(mode="after")
    def _tables_are_its_own_or_another_s(self) -> "DashboardOptions":
        if self.tables_dir is not None and (self.output_dir or self.alerts or self.source == "kafka"):
            raise ValueError(
                "--tables_dir shows what a monitor keeps: give --output_dir, --alerts and --source to that"
            )
        return self
