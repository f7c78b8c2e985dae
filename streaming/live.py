"""The live view: a streaming query over the events directory, and the tables it keeps up to date.

    view = LiveView()
    query = start_live_query(spark, events_dir, on_tables=view.update, state_dir=...)

The query reads new event files as they appear, keeps the latest event per run,
split, epoch and class, and hands the tables of streaming/queries.py to
on_tables after each micro-batch. With the same state_dir it goes on where
it was stopped. Each batch is a complete result, so a repeated one changes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from conf.alerts import AlertRules, read_alert_rules
from streaming.alerts import alerts
from streaming.events import spark_ddl
from streaming.queries import epoch_summary, latest_events, per_class_accuracy

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class LiveTables:
    """The results of one micro-batch over all runs: per_class_accuracy, epoch_summary and alerts."""

    per_class: pa.Table
    epochs: pa.Table
    alerts: pa.Table


@dataclass
class LiveView:
    """The latest tables as rows, for whoever draws them; replaced whole, so any thread may read."""

    per_class: Rows = field(default_factory=list)
    epochs: Rows = field(default_factory=list)
    alerts: Rows = field(default_factory=list)

    def update(self, tables: LiveTables) -> None:
        self.per_class, self.epochs = tables.per_class.to_pylist(), tables.epochs.to_pylist()
        self.alerts = tables.alerts.to_pylist()


def read_event_stream(spark: SparkSession, events_dir: Path) -> DataFrame:
    """The events of all runs as a streaming DataFrame; the directory is made if it is not there."""
    events_dir.mkdir(parents=True, exist_ok=True)
    # A line that is no event (broken JSON, a value of another type) is passed over; it must not stop the view.
    return spark.readStream.schema(spark_ddl()).json(str(events_dir.absolute()), mode="DROPMALFORMED")


def start_live_query(
    spark: SparkSession,
    events_dir: Path,
    *,
    on_tables: Callable[[LiveTables], None],
    state_dir: Path,
    trigger: str | None,
    rules: AlertRules | None = None,
) -> StreamingQuery:
    """Start the query; trigger as Spark spells it ("1 second"), or None to process what is there and end.

    rules: when to raise an alert; None: longtail's own (conf/alerts.yaml)
    """
    rules = rules or read_alert_rules()
    own_session = spark.newSession()
    # Event batches are small: one task beats the start-up of many.
    own_session.conf.set("spark.sql.shuffle.partitions", "1")
    facts_dir = state_dir.absolute() / "latest_events"
    when = {"availableNow": True} if trigger is None else {"processingTime": trigger}

    def process(batch: DataFrame, batch_id: int) -> None:
        # Written once and read back: every action on a streaming batch computes it, state included, anew.
        batch.coalesce(1).write.mode("overwrite").parquet(str(facts_dir))
        facts = own_session.read.schema(batch.schema).parquet(str(facts_dir))
        per_class, epochs = per_class_accuracy(facts).toArrow(), epoch_summary(facts).toArrow()
        frames = (own_session.createDataFrame(table) for table in (per_class, epochs))
        found = alerts(*frames, rules, now=time.time()).toArrow()
        on_tables(LiveTables(per_class=per_class, epochs=epochs, alerts=found))

    return (
        latest_events(read_event_stream(own_session, events_dir))
        .writeStream.outputMode("complete")
        .option("checkpointLocation", str(state_dir.absolute() / "checkpoint"))
        .trigger(**when)
        .queryName("longtail live view")
        .foreachBatch(process)
        .start()
    )
