"""Metric events for tests: one plain event, and what a test wants to be different about it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from streaming.events import ClassEvent, spark_ddl

PLAIN = ClassEvent(
    schema_version=1,
    run="base",
    attempt=1,
    phase="train",
    epoch=1,
    num_epochs=3,
    split="test",
    class_id=0,
    class_name="head",
    shot_group="many",
    train_count=200,
    support=4,
    correct=3,
    predicted=5,
    loss_sum=2.0,
    confidence_sum=3.0,
    epoch_seconds=1.5,
    images_per_second=100.0,
    emitted_at=1000.0,
)


def class_event(**changes: Any) -> ClassEvent:
    return dataclasses.replace(PLAIN, **changes)


def event_frame(spark: SparkSession, events: Sequence[ClassEvent | dict[str, Any]]) -> DataFrame:
    """Events (or their fields as a dict, for what no ClassEvent may be) as the static twin of the event stream."""
    rows = [dataclasses.asdict(event) if isinstance(event, ClassEvent) else event for event in events]
    return spark.createDataFrame(rows, spark_ddl())
