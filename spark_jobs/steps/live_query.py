"""The live query of the monitor and of the dashboard: what is checked before Spark starts, and its start."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import one_line, printable
from longtail.conf.options.live import LiveQueryOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.event_source import connection_of, event_source, packages_of
from longtail.streaming.alerts.notifier import Notifier, alert_line
from longtail.streaming.alerts.receivers import SEND_SECONDS, Receiver, receiver
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.live.kafka_brokers import KafkaConnection
from longtail.streaming.live.own_alerts import Alerts
from longtail.streaming.live.own_queries import OwnQuery, load_queries
from longtail.streaming.live.query import LiveQuery, start_live_query
from longtail.streaming.live.running_queries import RunningQuery, start_queries
from longtail.streaming.live.waiting import read_waiting_files


@dataclass(frozen=True)
class LiveInputs:
    """What the options of a live query name, read and checked."""

    rules: AlertRules
    kafka: KafkaConnection | None
    queries: list[OwnQuery]
    receiver: Receiver | None


@dataclass(frozen=True)
class LiveQueries:
    """The live query, and what runs beside it. At the end of a `with` block all of it ends."""

    live: LiveQuery
    queries: list[RunningQuery]
    notifier: Notifier | None

    def __enter__(self) -> "LiveQueries":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # In a session that goes on after the job, such as a notebook's, they would too.
        if self.live.isActive:
            self.live.stop()
        for running in self.queries:
            running.stop()
        if self.notifier:
            self.notifier.close(wait_seconds=0)

    def finish(self) -> None:
        """Wait for all queries, of which each processes what is there and ends, and for the last alerts to be sent.

        Raises the error that ended the live query, or else UserError if one of the user's own has failed.
        """
        self.live.awaitTermination()
        failures = []
        for running in self.queries:
            while running.isActive:  # awaitTermination would raise its error, with Spark's trace
                time.sleep(0.1)
            if failure := running.failure():
                failures.append(failure)
        if self.notifier:
            self.notifier.close(wait_seconds=3 * SEND_SECONDS)
        if failures:
            raise UserError("; ".join(failures))


def live_inputs(options: LiveQueryOptions) -> LiveInputs:
    """Read and check what the options name, without Spark. Raises UserError if something cannot be used."""
    return LiveInputs(
        rules=read_alert_rules(options.alerts),
        kafka=connection_of(options),
        queries=load_queries(options.query),
        receiver=receiver(options.notify) if options.notify is not None else None,
    )


def start_query(
    job: str,
    options: LiveQueryOptions,
    inputs: LiveInputs,
    *,
    tables_dir: Path,
    trigger: str | None,
    on_update: Callable[[list[str]], None] = lambda runs: None,
) -> LiveQueries:
    """Start Spark and the queries of a job; trigger and on_update as for start_live_query."""
    if options.source == "files" and not options.new_checkpoint:
        read_waiting_files(options.runs_dir, tables_dir, inputs.rules, on_update=on_update)
    spark = spark_session(job, options, packages=packages_of(options))
    source = event_source(spark, options, inputs.kafka)
    notifier = Notifier(inputs.receiver, tables_dir) if inputs.receiver else None

    def update(runs: list[str]) -> None:
        on_update(runs)
        if notifier:
            notifier.update(runs)

    def print_and_send(alerts: Alerts) -> None:
        for alert in alerts:
            print(f"alert: {one_line(printable(alert_line(alert)))}", file=sys.stderr, flush=True)
        if notifier:
            notifier.send(alerts)

    live = start_live_query(
        spark,
        source.events,
        tables_dir=tables_dir,
        trigger=trigger,
        source=source.name,
        new_checkpoint=options.new_checkpoint,
        rules=inputs.rules,
        runs_dir=options.runs_dir,
        on_update=update,
    )
    try:
        own = start_queries(
            spark,
            inputs.queries,
            source.lines,
            tables_dir=tables_dir,
            source=source.name,
            trigger=trigger,
            on_alerts=print_and_send,
        )
    except BaseException:
        live.stop()
        raise
    return LiveQueries(live, own, notifier)
