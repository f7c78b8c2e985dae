"""The live query of the monitor and of the dashboard: what is checked before Spark starts, and its start."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from longtail.conf.options.live import LiveQueryOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.event_source import connection_of, event_source, packages_of
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.live.kafka_brokers import KafkaConnection
from longtail.streaming.live.query import LiveQuery, start_live_query


@dataclass(frozen=True)
class LiveInputs:
    """What the options of a live query name, read and checked."""

    rules: AlertRules
    kafka: KafkaConnection | None


def live_inputs(options: LiveQueryOptions) -> LiveInputs:
    """Read and check what the options name, without Spark. Raises UserError if something cannot be used."""
    return LiveInputs(read_alert_rules(options.alerts), connection_of(options))


def start_query(
    job: str,
    options: LiveQueryOptions,
    inputs: LiveInputs,
    *,
    tables_dir: Path,
    trigger: str | None,
    on_update: Callable[[list[str]], None] = lambda runs: None,
) -> LiveQuery:
    """Start Spark and the query of a job; trigger and on_update as for start_live_query."""
    spark = spark_session(job, options, packages=packages_of(options))
    source = event_source(spark, options, inputs.kafka)
    return start_live_query(
        spark,
        source.read,
        tables_dir=tables_dir,
        trigger=trigger,
        source=source.name,
        new_checkpoint=options.new_checkpoint,
        rules=inputs.rules,
        runs_dir=options.runs_dir,
        on_update=on_update,
    )
