"""Queries on the result tables (streaming/table_queries.py), against values computed by hand."""

from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.vocabulary import FEW, MANY, TEST, UNLABELED, VAL
from longtail.streaming.table_queries import (
    confusion_flow,
    pseudo_label_drift,
    pseudo_label_scores,
    throughput,
    with_lost_runs,
)
from longtail.streaming.tables.liveness import Liveness


def table(spark: SparkSession, columns: str, *rows: tuple[Any, ...]) -> DataFrame:
    return spark.createDataFrame(list(rows), columns)


def test_throughput_counts_an_epoch_once_and_gives_the_seconds_left(spark: SparkSession) -> None:
    columns = "run string, split string, epoch long, num_epochs long, epoch_seconds double, images_per_second double"
    epochs = table(
        spark, columns,
        ("base", TEST, 1, 5, 2.0, 100.0), ("base", VAL, 1, 5, 2.0, 100.0), ("base", TEST, 2, 5, 4.0, 50.0),
    )  # fmt: skip

    (row,) = throughput(epochs).toArrow().to_pylist()

    assert row == {
        "run": "base", "epoch": 2, "num_epochs": 5, "images_per_second": 75.0, "epoch_seconds": 3.0, "seconds_left": 9.0
    }  # fmt: skip


def test_the_confusion_flow_names_the_class_that_is_predicted_most_often_for_each_class(spark: SparkSession) -> None:
    columns = "run string, split string, epoch long, true_class long, predicted_class long, count long"
    cells = [("base", TEST, 1, *cell) for cell in [(2, 0, 5), (2, 1, 2), (2, 2, 3), (0, 0, 9), (0, 1, 1), (1, 1, 4)]]
    classes = [("base", 0, "head", MANY), ("base", 1, "body", MANY), ("base", 2, "tail", FEW)]
    class_epochs = table(spark, "run string, class_id long, class_name string, shot_group string", *classes)

    flow = confusion_flow(table(spark, columns, *cells), class_epochs, num_flows=1).toArrow().to_pylist()

    assert [(row["true_name"], row["predicted_name"], row["count"], row["share"]) for row in flow] == [
        ("head", "body", 1, 1 / 10),
        ("tail", "head", 5, 5 / 10),
    ]
    assert (flow[1]["true_group"], flow[1]["predicted_group"]) == (FEW, MANY)


def test_pseudo_labels_have_precision_and_recall_per_class_and_epoch(spark: SparkSession) -> None:
    columns = (
        "run string, split string, epoch long, class_id long, class_name string, shot_group string, support long, "
        "predicted long, correct long, precision double, accuracy double, accuracy_low double, accuracy_high double"
    )
    class_epochs = table(
        spark, columns,
        ("base", UNLABELED, 2, 0, "head", MANY, 8, 12, 6, 0.5, 0.75, 0.4, 0.9),
        ("base", UNLABELED, 1, 1, "tail", FEW, 2, 0, 0, None, 0.0, 0.0, 0.7),
        ("base", UNLABELED, 1, 0, "head", MANY, 8, 5, 4, 0.8, 0.5, 0.2, 0.8),
        ("base", TEST, 1, 0, "head", MANY, 4, 4, 4, 1.0, 1.0, 0.5, 1.0),
    )  # fmt: skip

    found = pseudo_label_scores(class_epochs).toArrow().to_pylist()

    assert [(row["epoch"], row["class_id"], row["images"], row["pseudo_labels"]) for row in found] == [
        (1, 0, 8, 5), (1, 1, 2, 0), (2, 0, 8, 12)
    ]  # fmt: skip
    assert [row["precision"] for row in found] == [0.8, None, 0.5]
    recalls = [(row["recall"], row["recall_low"], row["recall_high"]) for row in found]
    assert recalls == [(0.5, 0.2, 0.8), (0.0, 0.0, 0.7), (0.75, 0.4, 0.9)]


def test_drift_compares_a_round_with_the_round_that_its_classifier_learned(spark: SparkSession) -> None:
    columns = (
        "run string, previous_run string, round long, class_id long, class_name string, pseudo_label_count long, "
        "mean_confidence double"
    )
    labels = table(
        spark, columns,
        ("base", None, 1, 0, "head", 300, 0.8), ("base", None, 1, 1, "tail", 0, None),
        ("semi", "base", 2, 0, "head", 250, 0.9), ("semi", "base", 2, 1, "tail", 150, 0.9),
        ("other", None, 1, 0, "head", 1, 0.8),
    )  # fmt: skip

    first, second = pseudo_label_drift(labels).toArrow().to_pylist()

    assert (first["run"], first["previous_run"], first["class_id"], first["count_change"]) == ("semi", "base", 0, -50)
    assert first["confidence_change"] == pytest.approx(0.1)
    assert (second["count_change"], second["confidence_change"]) == (150, None)


def test_runs_are_lost_in_spark_as_they_are_for_readers(spark: SparkSession) -> None:
    rows = [("a", "running", 100.0), ("b", "finished", 100.0), ("c", "running", 150.0), ("d", "running", 110.0)]
    runs = table(spark, "run string, status string, updated_at double", *rows)

    found = with_lost_runs(runs, now=170.0, silent_seconds=60.0).toArrow()

    assert found["status"].to_pylist() == ["lost", "finished", "running", "running"]
    read = pa.Table.from_pylist([{**dict(zip(runs.columns, row, strict=True)), "message": ""} for row in rows])
    assert Liveness(60.0).judged(read, now=170.0)["status"].to_pylist() == found["status"].to_pylist()
