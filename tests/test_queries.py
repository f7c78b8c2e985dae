"""The queries over metric events (streaming/queries.py), against values computed by hand.

Four classes of the test split: head (4 images), body and tail (2 each), and one without images. A query costs the same
for one run as for many: each test names its events as a run of its own, and one query answers for all of them.
"""

import dataclasses
import math
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from longtail.streaming.events.schema import (
    ClassEvent,
    ConfusionEvent,
    Event,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
    spark_ddl,
)
from longtail.streaming.queries import (
    class_epochs,
    confusion,
    epochs,
    latest_class_events,
    pseudo_labels,
    run_updates,
    runs,
    steps,
)
from longtail.streaming.table_queries import compared
from longtail.streaming.tables.schemas import TABLES
from tests.events import an_event, class_event

NAMES = ["head", "body", "tail", "absent"]
GROUPS = ["many", "medium", "few", "few"]
SUPPORT = [4, 2, 2, 0]

CLASS_EVENTS: list[ClassEvent] = []
CONFUSION_EVENTS: list[ConfusionEvent] = []
RUN_EVENTS: list[RunEvent] = []


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


def run_with(run: str, *events: Event) -> str:
    """Declares a run that sends these events; returns its name."""
    for event in events:
        known = {ClassEvent: CLASS_EVENTS, ConfusionEvent: CONFUSION_EVENTS, RunEvent: RUN_EVENTS}[type(event)]
        known.append(dataclasses.replace(event, run=run))
    return run


def frame(spark: SparkSession, events: list[Any]) -> DataFrame:
    """Events of one kind."""
    rows = pa.Table.from_pylist([dataclasses.asdict(event) for event in events])
    return spark.createDataFrame(rows, spark_ddl(type(events[0])))


def rows(table: DataFrame) -> list[dict[str, Any]]:
    key = [name for name in ("run", "split", "epoch", "step", "class_id") if name in table.columns]
    return table.orderBy(*key).toArrow().to_pylist()


def column(table: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in table]


Answers = dict[str, pa.Table]
"""Each query's table over the events of all runs."""


@pytest.fixture(scope="module")
def answers(spark: SparkSession) -> Answers:
    classes = class_epochs(latest_class_events(frame(spark, CLASS_EVENTS))).toArrow()
    class_rows = spark.createDataFrame(classes)
    return {
        "class_epochs": classes,
        "epochs": epochs(class_rows).toArrow(),
        "confusion": confusion(frame(spark, CONFUSION_EVENTS)).toArrow(),
        "runs": runs(run_updates(frame(spark, RUN_EVENTS))).toArrow(),
    }


def rows_of(answers: Answers, query: str, *runs: str) -> list[dict[str, Any]]:
    """A query's rows of some runs, in order."""
    found = [row for row in answers[query].to_pylist() if row["run"] in runs]
    key = [name for name in ("run", "split", "epoch", "class_id", "true_class", "predicted_class") if name in found[0]]
    return sorted(found, key=lambda row: [row[name] for name in key])


def latest_classes(answers: Answers, *runs: str) -> list[dict[str, Any]]:
    """class_epochs at each run's and split's latest epoch."""
    found = rows_of(answers, "class_epochs", *runs)
    last = {(row["run"], row["split"]): row["epoch"] for row in found}
    return [row for row in found if row["epoch"] == last[row["run"], row["split"]]]


def without_run(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "run"} for row in table]


THREE_EPOCHS = [
    *epoch_events(1, correct=[3, 1, 0, 0], predicted=[6, 1, 1, 0]),
    *epoch_events(2, correct=[4, 2, 1, 0], predicted=[4, 3, 1, 0]),
    *epoch_events(3, correct=[3, 1, 1, 0], predicted=[5, 1, 2, 0]),
]
BASE = run_with("base", *THREE_EPOCHS)


def test_every_class_is_shown_at_the_last_epoch_with_accuracy_change_best_and_shares(answers: Answers) -> None:
    shown = latest_classes(answers, BASE)

    assert column(shown, "class_name") == NAMES
    assert column(shown, "epoch") == [3, 3, 3, 3]
    assert column(shown, "train_count") == [200, 100, 50, 25]
    assert column(shown, "accuracy") == [3 / 4, 1 / 2, 1 / 2, None]
    assert column(shown, "accuracy_change") == [3 / 4 - 1, 1 / 2 - 1, 0, None]
    assert column(shown, "best_accuracy") == [1, 1, 1 / 2, None]
    assert column(shown, "true_share") == [4 / 8, 2 / 8, 2 / 8, 0]
    assert column(shown, "predicted_share") == [5 / 8, 1 / 8, 2 / 8, 0]


ONE_EPOCH = run_with("one epoch", *THREE_EPOCHS[:4])


def test_in_the_first_epoch_there_is_no_change(answers: Answers) -> None:
    shown = latest_classes(answers, ONE_EPOCH)

    assert column(shown, "accuracy_change") == [None] * 4
    assert column(shown, "best_accuracy") == column(shown, "accuracy") == [3 / 4, 1 / 2, 0, None]


def test_a_class_without_images_keeps_its_row_and_has_no_accuracy(answers: Answers) -> None:
    absent = latest_classes(answers, BASE)[3]

    assert (absent["class_name"], absent["support"], absent["train_count"]) == ("absent", 0, 25)
    assert (absent["accuracy"], absent["accuracy_change"], absent["best_accuracy"]) == (None, None, None)


TWO_SPLITS = run_with(
    "two splits", *THREE_EPOCHS, *epoch_events(3, correct=[1, 1, 1, 0], predicted=[2, 2, 4, 0], split="val")
)
UNLIKE_THE_OTHERS = run_with("unlike the others", *epoch_events(1, correct=[0, 0, 2, 0], predicted=[0, 0, 8, 0]))


def test_runs_and_splits_are_kept_apart(answers: Answers) -> None:
    shown = latest_classes(answers, TWO_SPLITS, UNLIKE_THE_OTHERS)

    order = [(TWO_SPLITS, "test")] * 4 + [(TWO_SPLITS, "val")] * 4 + [(UNLIKE_THE_OTHERS, "test")] * 4
    assert [(row["run"], row["split"]) for row in shown] == order
    assert column(shown, "class_id") == [0, 1, 2, 3] * 3
    assert column(shown, "epoch") == [3] * 8 + [1] * 4
    assert column(shown, "accuracy")[4:] == [1 / 4, 1 / 2, 1 / 2, None, 0, 0, 1, None]
    assert column(shown, "accuracy_change")[4:] == [None] * 8
    assert column(shown, "best_accuracy")[:4] == [1, 1, 1 / 2, None]
    assert column(shown, "predicted_share")[4:] == [2 / 8, 2 / 8, 4 / 8, 0, 0, 0, 1, 0]


def test_an_epoch_is_summed_up_over_images_classes_and_groups(answers: Answers) -> None:
    first, second, third = rows_of(answers, "epochs", BASE)

    assert [row["epoch"] for row in (first, second, third)] == [1, 2, 3]
    assert [row["accuracy"] for row in (first, second, third)] == [4 / 8, 7 / 8, 5 / 8]
    assert first["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3, rel=1e-12)
    assert third["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3, rel=1e-12)
    assert [third[f"{group}_shot_accuracy"] for group in ("many", "medium", "few")] == [3 / 4, 1 / 2, 1 / 2]
    assert third["loss"] == (4 + 1 + 3) / 8


NO_MEDIUM_GROUP = run_with(
    "no medium group",
    *(
        dataclasses.replace(event, shot_group="many" if event.class_id < 2 else "few")
        for event in epoch_events(1, correct=[3, 2, 1, 0], predicted=[4, 2, 2, 0])
    ),
)


def test_a_group_is_the_mean_of_its_classes_and_null_without_any(answers: Answers) -> None:
    (summary,) = rows_of(answers, "epochs", NO_MEDIUM_GROUP)

    assert summary["many_shot_accuracy"] == (3 / 4 + 1) / 2
    assert summary["medium_shot_accuracy"] is None
    assert summary["few_shot_accuracy"] == 1 / 2


DIVERGENCES = {
    run_with(name, *epoch_events(1, correct=[0, 0, 0, 0], predicted=predicted)): divergence
    for name, predicted, divergence in (
        ("as many as there are", [4, 2, 2, 0], 0),
        ("head preferred", [5, 1, 2, 0], 5 / 8 * math.log(5 / 4) + 1 / 8 * math.log(1 / 2)),
        ("only the head", [8, 0, 0, 0], math.log(2)),
        ("only the tail", [0, 0, 8, 0], math.log(4)),
        ("an absent class predicted", [4, 2, 1, 1], math.inf),
    )
}


@pytest.mark.parametrize("run", DIVERGENCES)
def test_label_bias_is_the_divergence_of_predicted_from_true_shares(answers: Answers, run: str) -> None:
    (summary,) = rows_of(answers, "epochs", run)

    assert summary["label_bias"] == pytest.approx(DIVERGENCES[run], rel=1e-12, abs=1e-15)


NO_IMAGE = run_with("no image", *epoch_events(1, correct=[0] * 4, predicted=[0] * 4, support=0, loss_sum=0.0))


def test_an_epoch_without_any_image_has_no_scores(answers: Answers) -> None:
    (summary,) = rows_of(answers, "epochs", NO_IMAGE)

    assert [summary[name] for name in ("accuracy", "balanced_accuracy", "label_bias", "loss")] == [None] * 4


NO_CLASS = run_with("no class", *epoch_events(1, correct=[0] * 4, predicted=[4, 0, 0, 0], support=0, loss_sum=0.0))
NO_PREDICTION = run_with("no prediction", *epoch_events(1, correct=[0] * 4, predicted=[0] * 4))


@pytest.mark.parametrize("run", [NO_CLASS, NO_PREDICTION])
def test_without_images_of_the_classes_or_predictions_there_is_no_label_bias(answers: Answers, run: str) -> None:
    (summary,) = rows_of(answers, "epochs", run)

    assert summary["label_bias"] is None


TWICE = run_with("twice", *THREE_EPOCHS, *THREE_EPOCHS)


@pytest.mark.parametrize("query", ["class_epochs", "epochs"])
def test_events_that_are_delivered_twice_count_once(answers: Answers, query: str) -> None:
    once = without_run(rows_of(answers, query, BASE))

    assert len(once) == (len(THREE_EPOCHS) if query == "class_epochs" else 3)
    for row, expected in zip(without_run(rows_of(answers, query, TWICE)), once, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            # Sums in another order differ in the last digits.
            is_real = isinstance(value, float)
            assert row[name] == (pytest.approx(value, rel=1e-12, nan_ok=True) if is_real else value), name


REPETITION = epoch_events(3, correct=[1, 0, 2, 0], predicted=[3, 1, 4, 0], attempt=2, emitted_at=500.0)
REPEATED_FIRST = run_with("repetition first", *REPETITION, *THREE_EPOCHS)
REPEATED_LAST = run_with("repetition last", *THREE_EPOCHS, *REPETITION)


@pytest.mark.parametrize("run", [REPEATED_FIRST, REPEATED_LAST])
def test_the_later_attempt_counts_in_whatever_order_events_come(answers: Answers, run: str) -> None:
    """A clock that was put back between the attempts does not matter either."""
    shown = latest_classes(answers, run)

    assert column(shown, "accuracy") == [1 / 4, 0, 1, None]
    assert column(shown, "accuracy_change") == [1 / 4 - 1, 0 - 1, 1 - 1 / 2, None]
    assert column(shown, "predicted_share") == [3 / 8, 1 / 8, 4 / 8, 0]


SMALLER_REPETITION = [event for event in REPETITION if event.class_id != 1]
FEWER_CLASSES = run_with("fewer classes", *THREE_EPOCHS, *SMALLER_REPETITION)


def test_of_an_epoch_nothing_is_left_of_an_earlier_attempt(answers: Answers) -> None:
    shown = latest_classes(answers, FEWER_CLASSES)

    assert column(shown, "class_name") == ["head", "tail", "absent"]
    assert column(shown, "accuracy") == [1 / 4, 1, None]
    assert column(shown, "predicted_share") == [3 / 7, 4 / 7, 0]
    *_, last = rows_of(answers, "epochs", FEWER_CLASSES)
    assert last["balanced_accuracy"] == (1 / 4 + 1) / 2 and last["accuracy"] == 3 / 6


EMITTED_AGAIN = run_with(
    "emitted again",
    *epoch_events(3, correct=[2, 2, 2, 0], predicted=[4, 2, 2, 0], emitted_at=1000.5),
    *THREE_EPOCHS,
)


def test_of_one_attempt_the_event_emitted_last_counts(answers: Answers) -> None:
    assert column(latest_classes(answers, EMITTED_AGAIN), "accuracy") == [1 / 2, 1, 1, None]


CONFIDENCE_SUMS = [1.5, 1.5, 1.5, 0.0]
CONFIDENT = run_with(
    "confident",
    *(
        dataclasses.replace(event, confidence_sum=CONFIDENCE_SUMS[event.class_id])
        for event in epoch_events(1, correct=[3, 1, 0, 0], predicted=[6, 2, 0, 0])
    ),
)


def test_precision_f1_confidence_and_their_gap_are_of_the_class(answers: Answers) -> None:
    head, body, tail, absent = latest_classes(answers, CONFIDENT)

    assert [row["precision"] for row in (head, body, tail, absent)] == [3 / 6, 1 / 2, None, None]
    # 2 TP / (support + predicted)
    assert [row["f1"] for row in (head, body, tail, absent)] == [6 / 10, 2 / 4, 0, None]
    assert [row["mean_confidence"] for row in (head, body, tail, absent)] == [1.5 / 4, 1.5 / 2, 1.5 / 2, None]
    assert [row["calibration_gap"] for row in (head, body, tail, absent)] == [1.5 / 4 - 3 / 4, 0.25, 0.75, None]
    (summary,) = rows_of(answers, "epochs", CONFIDENT)
    assert summary["calibration_gap"] == (4.5 - 4) / 8
    assert summary["head_tail_gap"] == 3 / 4 - 0


def test_the_best_balanced_accuracy_is_that_of_all_epochs_so_far(answers: Answers) -> None:
    found = rows_of(answers, "epochs", BASE)

    first, second, third = ((3 / 4 + 1 / 2 + 0) / 3, (1 + 1 + 1 / 2) / 3, (3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert column(found, "balanced_accuracy") == pytest.approx([first, second, third])
    assert column(found, "best_balanced_accuracy") == pytest.approx([first, second, second])


def test_an_epoch_after_what_is_known_of_those_before_is_the_same_as_all_at_once(
    spark: SparkSession, answers: Answers
) -> None:
    def known(query: str) -> DataFrame:
        second = [row for row in rows_of(answers, query, BASE) if row["epoch"] == 2]
        return spark.createDataFrame(pa.Table.from_pylist(second, schema=TABLES[query]))

    last = class_epochs(latest_class_events(frame(spark, THREE_EPOCHS[8:])), known("class_epochs"))

    assert rows(last) == latest_classes(answers, BASE)
    assert rows(epochs(last, known("epochs"))) == rows_of(answers, "epochs", BASE)[-1:]


BEGUN_AGAIN = run_with(
    "begun again", *THREE_EPOCHS, *epoch_events(2, correct=[2, 2, 2, 0], predicted=[2, 3, 3, 0], attempt=2)
)


def test_nothing_is_left_of_an_earlier_attempt_from_the_epoch_on_that_a_later_one_begins_again(
    answers: Answers,
) -> None:
    shown = rows_of(answers, "class_epochs", BEGUN_AGAIN)

    assert column(shown, "epoch") == [1] * 4 + [2] * 4
    assert column(shown, "attempt") == [1] * 4 + [2] * 4
    assert column(shown, "accuracy_change")[4:] == [2 / 4 - 3 / 4, 1 - 1 / 2, 1, None]
    assert column(shown, "best_accuracy")[4:] == [3 / 4, 1, 1, None]
    assert column(rows_of(answers, "epochs", BEGUN_AGAIN), "epoch") == [1, 2]


def cell(true: int, predicted: int, count: int, **changes: Any) -> ConfusionEvent:
    return an_event(ConfusionEvent, true_class=true, predicted_class=predicted, count=count, **changes)


TWO_ATTEMPTS = run_with(
    "two attempts",
    cell(0, 0, 9, epoch=1),
    cell(0, 1, 3, epoch=2),
    cell(1, 1, 3, epoch=2),
    cell(0, 0, 4, epoch=2, attempt=2),
    cell(0, 0, 4, epoch=2, attempt=2),
    cell(2, 2, 1, epoch=1, split="val"),
)
FEWER_EPOCHS = run_with("fewer epochs", cell(0, 1, 9, epoch=3), cell(0, 0, 4, epoch=2, attempt=2))


def test_the_confusion_matrix_is_that_of_the_latest_epoch_of_the_highest_attempt(answers: Answers) -> None:
    found = rows_of(answers, "confusion", TWO_ATTEMPTS)

    names = ("split", "epoch", "true_class", "predicted_class", "count")
    assert [tuple(row[name] for name in names) for row in found] == [("test", 2, 0, 0, 4), ("val", 1, 2, 2, 1)]
    (left,) = rows_of(answers, "confusion", FEWER_EPOCHS)
    assert (left["epoch"], left["count"]) == (2, 4)


def test_from_an_epoch_that_a_later_attempt_begins_again_its_steps_count(spark: SparkSession) -> None:
    told = [
        an_event(StepEvent, epoch=3, step=5, loss=0.2),
        an_event(StepEvent, epoch=1, step=5, loss=0.6),
        an_event(StepEvent, epoch=2, step=5, loss=0.5),
        an_event(StepEvent, epoch=2, step=10, loss=0.4),
        an_event(StepEvent, epoch=2, step=7, loss=0.3, attempt=2),
        an_event(StepEvent, epoch=2, step=7, loss=0.3, attempt=2),
    ]

    found = steps(frame(spark, told)).orderBy("epoch", "step").toArrow()

    assert [(row["epoch"], row["step"], row["loss"]) for row in found.to_pylist()] == [(1, 5, 0.6), (2, 7, 0.3)]
    assert_columns_of_the_table(found, "steps")


BEGAN = an_event(RunEvent, emitted_at=10.0, configuration='{"lr": 1}')
WENT_ON = an_event(RunEvent, state="epoch_done", epoch=2, emitted_at=20.0, configuration='{"lr": 1}')
FAILED = an_event(RunEvent, state="failed", emitted_at=30.0, configuration='{"lr": 1}', message="out of memory")
AGAIN = an_event(RunEvent, attempt=2, epoch=2, emitted_at=5.0, configuration='{"lr": 1}')
DONE = an_event(RunEvent, state="finished", attempt=2, epoch=3, emitted_at=6.0, configuration='{"lr": 1}')
UNDER_WAY = run_with("under way", WENT_ON, BEGAN)
LOST = run_with("lost", FAILED, WENT_ON, BEGAN)
BEGUN_AGAIN = run_with("begun again", FAILED, AGAIN, BEGAN)
DONE_AGAIN = run_with("done again", DONE, FAILED, AGAIN, BEGAN)


def test_a_run_stands_where_its_latest_attempt_s_last_word_says(answers: Answers) -> None:
    names = ("run", "status", "attempt", "epoch", "started_at", "updated_at", "message", "configuration")
    stands = [row for run in (UNDER_WAY, LOST) for row in rows_of(answers, "runs", run)]
    assert [tuple(row[name] for name in names) for row in stands] == [
        (UNDER_WAY, "running", 1, 2, 10.0, 20.0, "", '{"lr": 1}'),
        (LOST, "failed", 1, 2, 10.0, 30.0, "out of memory", '{"lr": 1}'),
    ]
    # The clock was put back between the attempts; the higher attempt counts all the same.
    assert column(rows_of(answers, "runs", BEGUN_AGAIN, DONE_AGAIN), "status") == ["running", "finished"]


CLOCK_BEHIND = run_with("clock behind", BEGAN, WENT_ON, an_event(RunEvent, state="finished", epoch=3, emitted_at=18.0))
SHORTER = run_with(
    "shorter", DONE, an_event(RunEvent, attempt=3, phase="finetune", num_epochs=2, epoch=1, emitted_at=7.0)
)


STOPPED = run_with(
    "stopped",
    an_event(RunEvent, state="interrupted", epoch=2, emitted_at=25.0),
    *(BEGAN, WENT_ON, FAILED),  # of a rank whose peers were gone, by a clock ahead
)
STOPPED_AT_THE_END = run_with(
    "stopped at the end",
    an_event(RunEvent, state="finished", epoch=3, emitted_at=24.0),
    *(BEGAN, WENT_ON, an_event(RunEvent, state="interrupted", epoch=3, emitted_at=25.0)),
)


def test_an_interruption_is_no_failure_and_a_finished_run_was_not_interrupted(answers: Answers) -> None:
    (stopped,), (done,) = (rows_of(answers, "runs", run) for run in (STOPPED, STOPPED_AT_THE_END))

    assert (stopped["status"], stopped["epoch"], stopped["message"]) == ("interrupted", 2, "")
    assert (done["status"], done["epoch"]) == ("finished", 3)


def test_what_is_over_is_over_though_a_clock_was_behind(answers: Answers) -> None:
    (row,) = rows_of(answers, "runs", CLOCK_BEHIND)

    assert (row["status"], row["epoch"], row["updated_at"]) == ("finished", 3, 20.0)


def test_the_epochs_and_the_phase_of_a_run_are_those_of_its_latest_attempt(answers: Answers) -> None:
    (row,) = rows_of(answers, "runs", SHORTER)

    assert (row["attempt"], row["status"]) == (3, "running")
    assert (row["epoch"], row["num_epochs"], row["phase"]) == (1, 2, "finetune")


def test_a_labelling_that_is_repeated_replaces_all_classes_of_its_round(spark: SparkSession) -> None:
    told = [
        *(an_event(PseudoLabelEvent, class_id=c, pseudo_label_count=9, emitted_at=10.0) for c in range(3)),
        *(an_event(PseudoLabelEvent, class_id=c, pseudo_label_count=4, emitted_at=20.0) for c in range(2)),
        an_event(PseudoLabelEvent, round=2, emitted_at=5.0),
    ]

    found = pseudo_labels(frame(spark, told)).orderBy("round", "class_id").toArrow().to_pylist()

    assert [(row["round"], row["class_id"], row["pseudo_label_count"]) for row in found] == [
        (1, 0, 4), (1, 1, 4), (2, 0, 90),
    ]  # fmt: skip


STEP_BY_STEP = [
    an_event(RunEvent, run="step by step", emitted_at=10.0),
    an_event(RunEvent, run="step by step", state="failed", emitted_at=30.0, message="lost"),
    an_event(RunEvent, run="step by step", attempt=2, state="epoch_done", epoch=3, emitted_at=40.0),
]
run_with("step by step", *STEP_BY_STEP)


def test_what_a_run_s_row_says_and_a_new_event_sum_up_like_all_events(spark: SparkSession, answers: Answers) -> None:
    row = runs(run_updates(frame(spark, STEP_BY_STEP[:2])))

    step_by_step = runs(row.unionByName(run_updates(frame(spark, STEP_BY_STEP[2:]))))

    assert rows(step_by_step) == rows_of(answers, "runs", "step by step")


SEMI = run_with(
    "semi",
    *epoch_events(1, correct=[4, 1, 0, 0], predicted=[6, 1, 1, 0]),
    *epoch_events(2, correct=[4, 2, 2, 0], predicted=[4, 2, 2, 0]),
)


def test_two_runs_are_compared_at_the_epochs_that_both_have(spark: SparkSession, answers: Answers) -> None:
    summaries = spark.createDataFrame(answers["epochs"])

    first, second = compared(summaries, base=BASE, other=SEMI).toArrow().to_pylist()

    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert (first["base_accuracy"], first["other_accuracy"], first["accuracy_gain"]) == (4 / 8, 5 / 8, 1 / 8)
    assert (second["few_shot_accuracy_gain"], second["many_shot_accuracy_gain"]) == (1 / 2, 0)


def assert_columns_of_the_table(found: pa.Table, name: str) -> None:
    assert [(field.name, field.type) for field in found.schema] == [
        (field.name, field.type) for field in TABLES[name]
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["class_epochs", "epochs", "confusion", "runs"])
def test_a_query_gives_the_columns_of_its_table(answers: Answers, name: str) -> None:
    assert_columns_of_the_table(answers[name], name)
