"""What streaming/queries.py says about metric events, against values computed by hand.

Four classes of the test split: head (4 images), body and tail (2 each), and one without images.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming.events import ClassEvent
from streaming.live import read_event_stream
from streaming.queries import epoch_summary, latest_events, per_class_accuracy
from streaming.writer import EventWriter
from tests.events import class_event, event_frame

NAMES = ["head", "body", "tail", "absent"]
GROUPS = ["many", "medium", "few", "few"]
SUPPORT = [4, 2, 2, 0]


def epoch_events(epoch: int, *, correct: list[int], predicted: list[int], **changes: Any) -> list[ClassEvent]:
    return [
        class_event(
            **{
                "epoch": epoch,
                "class_id": class_id,
                "class_name": NAMES[class_id],
                "shot_group": GROUPS[class_id],
                "train_count": 200 >> class_id,
                "support": SUPPORT[class_id],
                "correct": correct[class_id],
                "predicted": predicted[class_id],
                "loss_sum": [4.0, 1.0, 3.0, 0.0][class_id],
                **changes,
            }
        )
        for class_id in range(4)
    ]


THREE_EPOCHS = [
    *epoch_events(1, correct=[3, 1, 0, 0], predicted=[6, 1, 1, 0]),
    *epoch_events(2, correct=[4, 2, 1, 0], predicted=[4, 3, 1, 0]),
    *epoch_events(3, correct=[3, 1, 1, 0], predicted=[5, 1, 2, 0]),
]


def rows(frame: DataFrame) -> list[dict[str, Any]]:
    return frame.toArrow().to_pylist()


def classes_of(spark: SparkSession, events: list[ClassEvent]) -> list[dict[str, Any]]:
    return rows(per_class_accuracy(latest_events(event_frame(spark, events))))


def epochs_of(spark: SparkSession, events: list[ClassEvent]) -> list[dict[str, Any]]:
    return rows(epoch_summary(latest_events(event_frame(spark, events))))


def column(table: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in table]


def test_every_class_is_shown_at_the_last_epoch_with_accuracy_change_best_and_shares(spark: SparkSession) -> None:
    shown = classes_of(spark, THREE_EPOCHS)

    assert column(shown, "class_name") == NAMES
    assert column(shown, "epoch") == [3, 3, 3, 3]
    assert column(shown, "train_count") == [200, 100, 50, 25]
    assert column(shown, "accuracy") == [3 / 4, 1 / 2, 1 / 2, None]
    assert column(shown, "change") == [3 / 4 - 1, 1 / 2 - 1, 0, None]
    assert column(shown, "best_accuracy") == [1, 1, 1 / 2, None]
    assert column(shown, "true_share") == [4 / 8, 2 / 8, 2 / 8, 0]
    assert column(shown, "predicted_share") == [5 / 8, 1 / 8, 2 / 8, 0]


def test_in_the_first_epoch_there_is_no_change(spark: SparkSession) -> None:
    shown = classes_of(spark, THREE_EPOCHS[:4])

    assert column(shown, "change") == [None] * 4
    assert column(shown, "best_accuracy") == column(shown, "accuracy") == [3 / 4, 1 / 2, 0, None]


def test_a_class_without_images_keeps_its_row_and_has_no_accuracy(spark: SparkSession) -> None:
    absent = classes_of(spark, THREE_EPOCHS)[3]

    assert (absent["class_name"], absent["support"], absent["train_count"]) == ("absent", 0, 25)
    assert (absent["accuracy"], absent["change"], absent["best_accuracy"]) == (None, None, None)


def test_runs_and_splits_are_kept_apart(spark: SparkSession) -> None:
    other_split = epoch_events(3, correct=[1, 1, 1, 0], predicted=[2, 2, 4, 0], split="val")
    other_run = epoch_events(1, correct=[0, 0, 2, 0], predicted=[0, 0, 8, 0], run="semi")

    shown = classes_of(spark, [*other_run, *THREE_EPOCHS, *other_split])

    order = [("base", "test")] * 4 + [("base", "val")] * 4 + [("semi", "test")] * 4
    assert [(row["run"], row["split"]) for row in shown] == order
    assert column(shown, "class_id") == [0, 1, 2, 3] * 3
    assert column(shown, "epoch") == [3] * 8 + [1] * 4
    assert column(shown, "accuracy")[4:] == [1 / 4, 1 / 2, 1 / 2, None, 0, 0, 1, None]
    assert column(shown, "change")[4:] == [None] * 8
    assert column(shown, "best_accuracy")[:4] == [1, 1, 1 / 2, None]
    assert column(shown, "predicted_share")[4:] == [2 / 8, 2 / 8, 4 / 8, 0, 0, 0, 1, 0]


def test_an_epoch_is_summed_up_over_images_classes_and_groups(spark: SparkSession) -> None:
    first, second, third = epochs_of(spark, THREE_EPOCHS)

    assert [row["epoch"] for row in (first, second, third)] == [1, 2, 3]
    assert [row["accuracy"] for row in (first, second, third)] == [4 / 8, 7 / 8, 5 / 8]
    assert first["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3, rel=1e-12)
    assert third["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3, rel=1e-12)
    assert [third[f"{group}_shot_accuracy"] for group in ("many", "medium", "few")] == [3 / 4, 1 / 2, 1 / 2]
    assert third["loss"] == (4 + 1 + 3) / 8


def test_a_group_is_the_mean_of_its_classes_and_null_without_any(spark: SparkSession) -> None:
    events = epoch_events(1, correct=[3, 2, 1, 0], predicted=[4, 2, 2, 0])
    many_and_few = [dataclasses.replace(event, shot_group="many" if event.class_id < 2 else "few") for event in events]

    (summary,) = epochs_of(spark, many_and_few)

    assert summary["many_shot_accuracy"] == (3 / 4 + 1) / 2
    assert summary["medium_shot_accuracy"] is None
    assert summary["few_shot_accuracy"] == 1 / 2


@pytest.mark.parametrize(
    ("predicted", "divergence"),
    [
        ([4, 2, 2, 0], 0),
        ([5, 1, 2, 0], 5 / 8 * math.log(5 / 4) + 1 / 8 * math.log(1 / 2)),
        ([8, 0, 0, 0], math.log(2)),
        ([0, 0, 8, 0], math.log(4)),
        ([4, 2, 1, 1], math.inf),
    ],
    ids=["as many as there are", "head preferred", "only the head", "only the tail", "an absent class predicted"],
)
def test_label_bias_is_the_divergence_of_predicted_from_true_shares(
    spark: SparkSession, predicted: list[int], divergence: float
) -> None:
    (summary,) = epochs_of(spark, epoch_events(1, correct=[0, 0, 0, 0], predicted=predicted))

    assert summary["label_bias"] == pytest.approx(divergence, rel=1e-12, abs=1e-15)


def test_an_epoch_without_any_image_has_no_scores(spark: SparkSession) -> None:
    (summary,) = epochs_of(spark, epoch_events(1, correct=[0] * 4, predicted=[0] * 4, support=0, loss_sum=0.0))

    assert [summary[name] for name in ("accuracy", "balanced_accuracy", "label_bias", "loss")] == [None] * 4


def test_events_that_are_delivered_twice_count_once(spark: SparkSession) -> None:
    twice = [*THREE_EPOCHS, *THREE_EPOCHS]

    assert latest_events(event_frame(spark, twice)).count() == len(THREE_EPOCHS)
    assert classes_of(spark, twice) == classes_of(spark, THREE_EPOCHS)
    assert epochs_of(spark, twice) == epochs_of(spark, THREE_EPOCHS)


@pytest.mark.parametrize("repetition_first", [False, True])
def test_the_later_attempt_counts_in_whatever_order_events_come(spark: SparkSession, repetition_first: bool) -> None:
    """A clock that was put back between the attempts does not matter either."""
    repetition = epoch_events(3, correct=[1, 0, 2, 0], predicted=[3, 1, 4, 0], attempt=2, emitted_at=500.0)

    shown = classes_of(spark, [*repetition, *THREE_EPOCHS] if repetition_first else [*THREE_EPOCHS, *repetition])

    assert column(shown, "accuracy") == [1 / 4, 0, 1, None]
    assert column(shown, "change") == [1 / 4 - 1, 0 - 1, 1 - 1 / 2, None]
    assert column(shown, "predicted_share") == [3 / 8, 1 / 8, 4 / 8, 0]


def test_of_one_attempt_the_event_emitted_last_counts(spark: SparkSession) -> None:
    again = epoch_events(3, correct=[2, 2, 2, 0], predicted=[4, 2, 2, 0], emitted_at=1000.5)

    assert column(classes_of(spark, [*again, *THREE_EPOCHS]), "accuracy") == [1 / 2, 1, 1, None]


def test_events_of_another_schema_version_or_without_a_key_are_dropped(spark: SparkSession) -> None:
    newer = epoch_events(4, correct=[4, 2, 2, 0], predicted=[4, 2, 2, 0], schema_version=2)
    plain = dataclasses.asdict(class_event(epoch=4))
    keyless = [{**plain, name: None} for name in ("schema_version", "run", "split", "epoch", "class_id")]

    kept = latest_events(event_frame(spark, [*THREE_EPOCHS, *newer, *keyless]))

    assert sorted(row["epoch"] for row in kept.collect()) == [1] * 4 + [2] * 4 + [3] * 4


def test_a_stream_over_the_writers_files_gives_the_same_as_the_static_frame(
    spark: SparkSession, tmp_path: Path
) -> None:
    repetition = epoch_events(3, correct=[1, 0, 2, 0], predicted=[3, 1, 4, 0], attempt=2)
    writer = EventWriter(tmp_path / "events", run="base", attempt=1)
    for epoch in (1, 2, 3):
        writer.write_epoch(epoch, [event for event in THREE_EPOCHS if event.epoch == epoch])
    EventWriter(tmp_path / "events", run="base", attempt=2).write_epoch(3, repetition)

    query = (
        latest_events(read_event_stream(spark, tmp_path / "events"))
        .writeStream.outputMode("complete")
        .format("memory")
        .queryName("streamed_facts")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    streamed = spark.table("streamed_facts")

    static = [*THREE_EPOCHS, *repetition]
    assert column(rows(per_class_accuracy(streamed)), "accuracy") == [1 / 4, 0, 1, None]
    assert rows(per_class_accuracy(streamed)) == classes_of(spark, static)
    assert rows(epoch_summary(streamed)) == epochs_of(spark, static)
