"""The jobs that follow running trainings."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import FilePath, field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.kafka_settings import check_setting
from longtail.conf.options.base import SparkJobOptions, TableFormat, of_form, option
from longtail.conf.options.location_types import DirectoryLocation
from longtail.conf.options.tracking import mlflow_server

EVENTS_TOPIC = "longtail-events"
TRIGGER = "100 milliseconds"
"""An interval without new events costs about 5 ms of one core."""
_HOST = re.compile(r"[\w.:%-]+", re.ASCII)

Topic = Annotated[str, of_form(r"[A-Za-z0-9._-]{1,249}", "a name of up to 249 letters, digits, ., _ and -")]
Interval = Annotated[str, of_form(r"[0-9]+ (milli)?seconds?", "a number of milliseconds or seconds, as '2 seconds',")]


class KafkaClientOptions(SparkJobOptions):
    """Settings of Kafka's client, for the jobs that read or write a topic."""

    kafka_option: tuple[str, ...] = option(
        (),
        "setting of Kafka's client, such as security.protocol=SASL_SSL; may be repeated. For secrets: env:NAME or "
        "file:PATH as the value stands for an environment variable or the content of a file",
        group="Input", repeated="KEY=VALUE",
    )  # fmt: skip
    kafka_config: FilePath | None = option(
        None, "properties file of client settings, in the format of Kafka's tools", group="Input"
    )

    @field_validator("kafka_option", mode="before")
    @classmethod
    def _a_mapping_in_a_file_is_settings_too(cls, value: Any) -> Any:
        return tuple(f"{key}={one}" for key, one in value.items()) if isinstance(value, dict) else value

    @field_validator("kafka_option")
    @classmethod
    def _settings_are_those_of_a_user(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for setting in value:
            check_setting(*setting.partition("="))
        return value


class KafkaOptions(KafkaClientOptions):
    """Options of the jobs that read or write a topic of events, each of which counts once however often it is read."""

    new_checkpoint: bool = option(
        False,
        "discard the stored offsets and read the source from its beginning, for a new or recreated topic; events that "
        "were read before are not counted twice",
        group="Live tables",
    )


class LiveQueryOptions(KafkaOptions):
    """Options of the jobs that maintain result tables by a streaming query."""

    runs_dir: Location = option(Path("runs"), "directory of the runs to watch", group="Input")
    source: Literal["files", "kafka"] = option(
        "files", "source of the metric events: files in --runs_dir, or a Kafka topic", group="Input"
    )
    bootstrap_servers: str | None = option(
        None, "with --source kafka: HOST:PORT of the brokers, separated by commas", group="Input"
    )
    topic: Topic = option(EVENTS_TOPIC, "with --source kafka: topic of the events", group="Input")
    alerts: FilePath | None = option(
        None, "YAML file of alert rules; default: conf/alerts.yaml of the package", group="Live tables"
    )
    trigger: Interval = option(TRIGGER, "interval between checks for new events", group="Live tables")
    query: tuple[str, ...] = option(
        (), "Python file with a streaming query of your own, table(events) or alerts(events); may be repeated",
        group="Live tables", repeated="FILE",
    )  # fmt: skip
    notify: str | None = option(
        None,
        "destination of new alerts, each of which is sent once: an http or https URL, which gets JSON, or a command, "
        "which gets it on its standard input; env:NAME or file:PATH if it is a secret",
        group="Live tables",
    )

    @model_validator(mode="after")
    def _kafka_has_brokers(self) -> "LiveQueryOptions":
        if (self.source == "kafka") != (self.bootstrap_servers is not None):
            raise ValueError("--source kafka and --bootstrap_servers HOST:PORT go together")
        if self.source != "kafka" and (self.kafka_option or self.kafka_config):
            raise ValueError("--kafka_option and --kafka_config need --source kafka")
        return self


class MonitorOptions(LiveQueryOptions):
    """monitor: live per-class accuracy of running trainings, by Structured Streaming over their metric events."""

    examples = (
        ("", "all runs in runs/, until interrupted"),
        ("--once", "the state of all runs, once"),
        ("--run LDAM --tensorboard tb", "runs with LDAM in their names, with TensorBoard scalars in tb/"),
    )

    run: str | None = option(None, "show only runs whose name contains this", group="Live tables")
    once: bool = option(False, "process the available events, show the tables, and exit", group="Live tables")
    output_dir: Location | None = option(
        None, "directory of the result tables; default: analytics/ in --runs_dir", group="Output"
    )
    tensorboard: Path | None = option(None, "directory for TensorBoard scalars of all runs", group="Output")
    mlflow: str | None = mlflow_server("log all runs, their scores and models in MLflow")
    format: TableFormat = option(
        "parquet", "delta writes the tables as Delta tables as well, in delta/ (pip install 'longtail[delta]')",
        group="Output",
    )  # fmt: skip


class RelayOptions(KafkaOptions):
    """relay: send the metric events of running trainings to a Kafka topic."""

    examples = (
        ("--bootstrap_servers localhost:9092", "all runs in runs/, until interrupted"),
        ("--bootstrap_servers localhost:9092 --once", "the available events, then exit"),
    )

    bootstrap_servers: str = option(..., "HOST:PORT of the Kafka brokers, separated by commas", group="Input")
    runs_dir: Location = option(Path("runs"), "directory of the runs whose events to send", group="Input")
    topic: Topic = option(EVENTS_TOPIC, "topic to send to", group="Output")
    once: bool = option(False, "send the available events, then exit", group="Live tables")
    trigger: Interval = option(TRIGGER, "interval between checks for new events", group="Live tables")


class DashboardOptions(LiveQueryOptions):
    """dashboard: live web page of all runs."""

    examples = (
        ("", "the runs in runs/, at http://127.0.0.1:8050"),
        ("--port 0", "at a free port"),
    )

    runs_dir: Location = option(Path("runs"), "directory of the runs to watch; created if it is missing", group="Input")
    tables_dir: DirectoryLocation | None = option(
        None, "show the result tables that a monitor maintains here, without starting a query", group="Input"
    )
    reports_dir: Location = option(
        Path("results/reports"),
        "directory of reports of experiments (`longtail report`), to which the page leads from their runs",
        group="Input",
    )
    output_dir: Location | None = option(
        None, "directory of the result tables; default: dashboard/ in --runs_dir", group="Output"
    )
    host: str = option(
        "127.0.0.1", "address to listen on; with 0.0.0.0, everybody who reaches this machine can read the page",
        group="Output",
    )  # fmt: skip
    changes_by: Literal["this_machine", "everybody", "nobody"] = option(
        "this_machine",
        "who may rename, tag, hide and delete runs on the page; this_machine: whoever opens it here, as long as --host "
        "is for this machine alone; everybody: whoever reaches it", group="Output",
    )  # fmt: skip
    downloads_by: Literal["this_machine", "everybody", "nobody"] = option(
        "this_machine", "who may download the checkpoints of runs from the page; as --changes_by", group="Output"
    )
    port: int = option(8050, "port to listen on; 0: any free one", group="Output", ge=0, le=65535)

    @field_validator("host")
    @classmethod
    def _host_is_one(cls, value: str) -> str:
        # Without a host, Python would listen on every address of the machine.
        if not _HOST.fullmatch(value):
            raise ValueError("a name or an address of this machine was expected, such as 127.0.0.1")
        return value

    @model_validator(mode="after")
    def _tables_of_a_monitor_need_no_query(self) -> "DashboardOptions":
        if self.tables_dir is not None and (self.output_dir or self.alerts or self.source == "kafka"):
            raise ValueError(
                "--tables_dir shows the tables of a monitor: give --output_dir, --alerts and --source to the monitor"
            )
        if self.tables_dir is not None and (self.query or self.notify or self.new_checkpoint):
            raise ValueError(
                "--tables_dir shows the tables of a monitor: give --query, --notify and --new_checkpoint to the monitor"
            )
        return self
