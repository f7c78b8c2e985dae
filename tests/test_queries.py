"""What streaming/queries.py says about metric events, against values computed by hand.

Four classes of the test split: head (4 images), body and tail (2 each), and one without images.
"""

import dataclasses
import math
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.conf.vocabulary import UNLABELED
from longtail.streaming.events.schema import ClassEvent, ConfusionEvent, RunEvent, StepEvent, spark_ddl
from longtail.streaming.queries import (
    class_epochs,
    compared,
    confusion,
    confusion_flow,
    epochs,
    latest_class_events,
    pseudo_label_scores,
    run_signs,
    runs,
    steps,
    throughput,
)
from longtail.streaming.tables.store import TABLES
from tests.events import an_event, class_event

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


def frame(spark: SparkSession, events: list[Any]) -> DataFrame:
    """Events of one kind."""
    return spark.createDataFrame([dataclasses.asdict(event) for event in events], spark_ddl(type(events[0])))


def rows(table: DataFrame) -> list[dict[str, Any]]:
    key = [name for name in ("run", "split", "epoch", "step", "class_id") if name in table.columns]
    return table.orderBy(*key).toArrow().to_pylist()


def classes_of(spark: SparkSession, events: list[ClassEvent]) -> list[dict[str, Any]]:
    """class_epochs at each run's and split's latest epoch."""
    found = rows(class_epochs(latest_class_events(frame(spark, events))))
    last = {(row["run"], row["split"]): row["epoch"] for row in found}
    return [row for row in found if row["epoch"] == last[row["run"], row["split"]]]


def epochs_of(spark: SparkSession, events: list[ClassEvent]) -> list[dict[str, Any]]:
    return rows(epochs(class_epochs(latest_class_events(frame(spark, events)))))


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


def test_pseudo_labels_have_a_precision_and_a_recall_by_class_and_epoch(spark: SparkSession) -> None:
    events = [
        class_event(split=UNLABELED, class_id=0, support=8, correct=4, predicted=5),
        class_event(split=UNLABELED, class_id=1, support=2, correct=0, predicted=0),
        class_event(split=UNLABELED, class_id=0, epoch=2, support=8, correct=6, predicted=12),
        class_event(split="test", class_id=0, support=4, correct=4, predicted=4),
    ]
    found = rows(pseudo_label_scores(class_epochs(latest_class_events(frame(spark, events)))))
    assert [(row["epoch"], row["class_id"], row["images"], row["pseudo_labels"]) for row in found] == [
        (1, 0, 8, 5), (1, 1, 2, 0), (2, 0, 8, 12)
    ]  # fmt: skip
    assert column(found, "precision") == [0.8, None, 0.5]
    assert column(found, "recall") == [0.5, 0.0, 0.75]


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

    assert latest_class_events(frame(spark, twice)).count() == len(THREE_EPOCHS)
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


def test_precision_f1_confidence_and_their_gap_are_of_the_class(spark: SparkSession) -> None:
    counted = epoch_events(1, correct=[3, 1, 0, 0], predicted=[6, 2, 0, 0])
    sums = [1.5, 1.5, 1.5, 0.0]
    events = [dataclasses.replace(event, confidence_sum=sums[event.class_id]) for event in counted]

    head, body, tail, absent = classes_of(spark, events)

    assert [row["precision"] for row in (head, body, tail, absent)] == [3 / 6, 1 / 2, None, None]
    # 2 TP / (support + predicted)
    assert [row["f1"] for row in (head, body, tail, absent)] == [6 / 10, 2 / 4, 0, None]
    assert [row["mean_confidence"] for row in (head, body, tail, absent)] == [1.5 / 4, 1.5 / 2, 1.5 / 2, None]
    assert [row["calibration_gap"] for row in (head, body, tail, absent)] == [1.5 / 4 - 3 / 4, 0.25, 0.75, None]
    (summary,) = epochs_of(spark, events)
    assert summary["calibration_gap"] == (4.5 - 4) / 8
    assert summary["head_tail_gap"] == 3 / 4 - 0


def test_the_best_balanced_accuracy_is_that_of_all_epochs_so_far(spark: SparkSession) -> None:
    found = epochs_of(spark, THREE_EPOCHS)

    first, second, third = ((3 / 4 + 1 / 2 + 0) / 3, (1 + 1 + 1 / 2) / 3, (3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert column(found, "balanced_accuracy") == pytest.approx([first, second, third])
    assert column(found, "best_balanced_accuracy") == pytest.approx([first, second, second])


def test_an_epoch_after_what_is_known_of_those_before_is_the_same_as_all_at_once(spark: SparkSession) -> None:
    whole = class_epochs(latest_class_events(frame(spark, THREE_EPOCHS)))
    known = whole.where("epoch = 2")
    last = class_epochs(latest_class_events(frame(spark, THREE_EPOCHS[8:])), known)

    assert rows(last) == rows(whole.where("epoch = 3"))
    assert rows(epochs(last, epochs(whole).where("epoch = 2"))) == rows(epochs(whole).where("epoch = 3"))


def cell(true: int, predicted: int, count: int, **changes: Any) -> ConfusionEvent:
    return an_event(ConfusionEvent, true_class=true, predicted_class=predicted, count=count, **changes)


def test_the_confusion_matrix_is_that_of_the_latest_epoch_and_attempt(spark: SparkSession) -> None:
    cells = [
        cell(0, 0, 9, epoch=1),
        cell(0, 1, 3, epoch=2),
        cell(1, 1, 3, epoch=2),
        cell(0, 0, 4, epoch=2, attempt=2),
        cell(0, 0, 4, epoch=2, attempt=2),
        cell(2, 2, 1, epoch=1, split="val"),
    ]

    found = confusion(frame(spark, cells)).orderBy("split").toArrow().to_pylist()

    names = ("split", "epoch", "true_class", "predicted_class", "count")
    assert [tuple(row[name] for name in names) for row in found] == [("test", 2, 0, 0, 4), ("val", 1, 2, 2, 1)]


def test_confusion_flow_says_which_class_eats_which(spark: SparkSession) -> None:
    cells = confusion(frame(spark, [cell(2, 0, 5), cell(2, 1, 2), cell(2, 2, 3), cell(0, 0, 9), cell(0, 1, 1)]))
    classes = class_epochs(latest_class_events(frame(spark, THREE_EPOCHS)))

    flow = confusion_flow(cells, classes, num_flows=1).toArrow().to_pylist()

    assert [(row["true_name"], row["predicted_name"], row["count"], row["share"]) for row in flow] == [
        ("head", "body", 1, 1 / 10),
        ("tail", "head", 5, 5 / 10),
    ]
    assert (flow[1]["true_group"], flow[1]["predicted_group"]) == ("few", "many")


def test_an_epoch_that_was_begun_twice_has_the_steps_of_the_later_attempt(spark: SparkSession) -> None:
    told = [
        an_event(StepEvent, step=5, loss=0.5),
        an_event(StepEvent, step=10, loss=0.4),
        an_event(StepEvent, step=7, loss=0.3, attempt=2),
        an_event(StepEvent, step=7, loss=0.3, attempt=2),
        an_event(StepEvent, epoch=2, step=5, loss=0.2),
    ]

    found = rows(steps(frame(spark, told)))

    assert [(row["epoch"], row["step"], row["loss"]) for row in found] == [(1, 7, 0.3), (2, 5, 0.2)]


def run_of(spark: SparkSession, *events: RunEvent) -> dict[str, Any]:
    (row,) = rows(runs(run_signs(frame(spark, list(events)))))
    return row


def test_a_run_stands_where_its_latest_attempt_s_last_word_says(spark: SparkSession) -> None:
    began = an_event(RunEvent, emitted_at=10.0, configuration='{"lr": 1}')
    went_on = an_event(RunEvent, state="epoch_done", epoch=2, emitted_at=20.0, configuration='{"lr": 1}')
    failed = an_event(RunEvent, state="failed", emitted_at=30.0, configuration='{"lr": 1}', message="out of memory")
    again = an_event(RunEvent, attempt=2, epoch=2, emitted_at=5.0, configuration='{"lr": 1}')
    done = an_event(RunEvent, state="finished", attempt=2, epoch=3, emitted_at=6.0, configuration='{"lr": 1}')

    names = ("status", "attempt", "epoch", "started_at", "updated_at", "message", "configuration")
    stands = [run_of(spark, *reversed(told)) for told in ([began, went_on], [began, went_on, failed])]
    assert [tuple(row[name] for name in names) for row in stands] == [
        ("running", 1, 2, 10.0, 20.0, "", '{"lr": 1}'),
        ("failed", 1, 2, 10.0, 30.0, "out of memory", '{"lr": 1}'),
    ]
    # The clock was put back between the attempts; the higher attempt counts all the same.
    assert run_of(spark, failed, again, began)["status"] == "running"
    assert run_of(spark, done, failed, again, began)["status"] == "finished"


def test_what_a_run_s_row_says_and_a_new_event_sum_up_like_all_events(spark: SparkSession) -> None:
    told = [
        an_event(RunEvent, emitted_at=10.0),
        an_event(RunEvent, state="failed", emitted_at=30.0, message="lost"),
        an_event(RunEvent, attempt=2, state="epoch_done", epoch=3, emitted_at=40.0),
    ]
    row = runs(run_signs(frame(spark, told[:2])))

    step_by_step = runs(row.unionByName(run_signs(frame(spark, told[2:]))))

    assert rows(step_by_step) == rows(runs(run_signs(frame(spark, told))))


def test_throughput_counts_an_epoch_once_and_says_what_is_left(spark: SparkSession) -> None:
    events = [
        *epoch_events(1, correct=[0] * 4, predicted=[0] * 4, epoch_seconds=2.0, images_per_second=100.0, num_epochs=5),
        *epoch_events(1, correct=[0] * 4, predicted=[0] * 4, epoch_seconds=2.0, images_per_second=100.0, split="val"),
        *epoch_events(2, correct=[0] * 4, predicted=[0] * 4, epoch_seconds=4.0, images_per_second=50.0, num_epochs=5),
    ]

    (row,) = throughput(epochs(class_epochs(latest_class_events(frame(spark, events))))).toArrow().to_pylist()

    assert row == {
        "run": "base", "epoch": 2, "num_epochs": 5, "images_per_second": 75.0, "epoch_seconds": 3.0, "seconds_left": 9.0
    }  # fmt: skip


def test_two_runs_are_compared_at_the_epochs_that_both_have(spark: SparkSession) -> None:
    with_unlabeled = [
        *epoch_events(1, correct=[4, 1, 0, 0], predicted=[6, 1, 1, 0], run="semi"),
        *epoch_events(2, correct=[4, 2, 2, 0], predicted=[4, 2, 2, 0], run="semi"),
    ]
    summaries = epochs(class_epochs(latest_class_events(frame(spark, [*THREE_EPOCHS, *with_unlabeled]))))

    first, second = compared(summaries, base="base", other="semi").toArrow().to_pylist()

    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert (first["base_accuracy"], first["other_accuracy"], first["accuracy_gain"]) == (4 / 8, 5 / 8, 1 / 8)
    assert (second["few_shot_accuracy_gain"], second["many_shot_accuracy_gain"]) == (1 / 2, 0)


@pytest.mark.parametrize("name", ["class_epochs", "epochs", "confusion", "steps", "runs"])
def test_a_query_gives_the_columns_of_its_table(spark: SparkSession, name: str) -> None:
    classes = class_epochs(latest_class_events(frame(spark, THREE_EPOCHS)))
    found = {
        "class_epochs": classes,
        "epochs": epochs(classes),
        "confusion": confusion(frame(spark, [cell(0, 0, 1)])),
        "steps": steps(frame(spark, [an_event(StepEvent)])),
        "runs": runs(run_signs(frame(spark, [an_event(RunEvent)]))),
    }[name]

    arrow = found.toArrow().schema
    assert [(field.name, field.type) for field in arrow] == [(field.name, field.type) for field in TABLES[name]]
