"""Metric events for tests: one plain event of each kind, and what a test wants to be different about it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.events.schema import (
    EVENT_KINDS,
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
    event_line,
    field_types,
)
from tests.batch_tables import tables_of

_OF_RUN = {"run": "base", "attempt": 1, "phase": "train", "emitted_at": 1000.0}
PLAIN = {
    ClassEvent: ClassEvent(
        **_OF_RUN, epoch=1, num_epochs=3, split="test", class_id=0, class_name="head", shot_group="many",
        train_count=200, pseudo_label_count=0, support=4, correct=3, predicted=5, loss_sum=2.0, confidence_sum=3.0,
        epoch_seconds=1.5, images_per_second=100.0,
    ),
    ConfusionEvent: ConfusionEvent(**_OF_RUN, epoch=1, split="test", true_class=0, predicted_class=0, count=3),
    StepEvent: StepEvent(
        **_OF_RUN, epoch=1, step=5, num_steps=10, loss=0.5, accuracy=0.75, images_per_second=80.0
    ),
    RunEvent: RunEvent(**_OF_RUN, state="started", epoch=0, num_epochs=3, configuration="{}", message=""),
    PseudoLabelEvent: PseudoLabelEvent(
        **{**_OF_RUN, "phase": "gen_pseudolabels"}, previous_run="", round=1, class_id=0, class_name="head",
        labelled_count=200, pseudo_label_count=90, mean_confidence=0.9, confidence_p10=0.5, confidence_p50=0.9,
        confidence_p90=1.0,
    ),
    PredictionEvent: PredictionEvent(
        **{**_OF_RUN, "phase": "predict"}, stream="predictions", window_start=600.0, window_seconds=600, class_id=0,
        class_name="head", train_count=200, predicted=100, novel=1, confidence_sum=90.0, confidence_squares=82.0,
        estimated_share=0.5, share_low=0.25, share_high=0.75, reference_predicted=1000, reference_novel=10,
        reference_confidence_sum=900.0, reference_confidence_squares=820.0,
    ),
}  # fmt: skip


def an_event(kind: type[Event], **changes: Any) -> Event:
    return dataclasses.replace(PLAIN[kind], **changes)


def events_in(*files: Path) -> list[dict[str, Any]]:
    """The events of files, of lines or columns, each with the fields of its kind; without the readers under test."""
    rows = []
    for file in files:
        if file.suffix == ".parquet":
            rows += pq.read_table(file).to_pylist()
        else:
            rows += map(json.loads, file.read_text().splitlines())
    return [{name: row[name] for name in field_types(EVENT_KINDS[row["kind"]])} for row in rows]


def class_event(**changes: Any) -> ClassEvent:
    return an_event(ClassEvent, **changes)


def line_frame(spark: SparkSession, lines: Sequence[Event | str]) -> DataFrame:
    """Events, or lines that are none, as the static twin of the stream of lines."""
    texts = [event_line(line) if isinstance(line, Event) else line for line in lines]
    # Of an Arrow table Spark makes a frame without a Python worker.
    return spark.createDataFrame(pa.table({"value": texts, "source": ["a file"] * len(texts)})).coalesce(1)


def batch_tables(
    spark: SparkSession, lines: Sequence[Event | str], rules: AlertRules | None = None
) -> dict[str, pa.Table]:
    """All result tables, computed from the events at once by Spark's queries."""
    return tables_of(line_frame(spark, lines), rules or AlertRules())
