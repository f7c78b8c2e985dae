"""Alerts (streaming/alerts/): each rule speaks when its condition holds, by hand, and is silent one step before."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import UNLABELED
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.events.schema import (
    ClassEvent,
    ConfusionEvent,
    Event,
    PseudoLabelEvent,
    StepEvent,
)
from longtail.streaming.tables.schemas import TABLES
from tests.arrow_tables import arrow_tables
from tests.events import an_event, class_event

HEAD, TAIL = 0, 1
RULES = AlertRules.model_validate(
    {
        "class_collapsed": {"once_above": 0.3, "now_below": 0.05},
        "tail_falling": {"epochs": 3},
        "gap_widening": {"epochs": 2},
        "plateau": {"epochs": 2, "gain": 0.01},
        "nan_loss": {},
        "unlabeled_irrelevant": {"confidence_drop": 0.2, "rho_factor": 2},
    }
)
EVENTS: list[Event] = []


def history(head: list[int], tail: list[int], *, num_epochs: int = 100) -> list[ClassEvent]:
    """A run of a head and a tail class of 100 test images each: per epoch, how many are right."""
    shared = {"support": 100, "num_epochs": num_epochs}
    events = []
    for epoch, (right_head, right_tail) in enumerate(zip(head, tail, strict=True), start=1):
        at = {**shared, "epoch": epoch, "emitted_at": 1000.0 + epoch}
        events.append(class_event(class_id=HEAD, shot_group="many", correct=right_head, **at))
        events.append(class_event(class_id=TAIL, shot_group="few", class_name="tail", correct=right_tail, **at))
    return events


def run_with(*events: Event) -> str:
    """Declares a run that sends these events; returns its name."""
    run = f"run-{len(EVENTS)}"
    EVENTS.extend(dataclasses.replace(event, run=run) for event in events)
    return run


Raised = Callable[[str, str], list[str]]


@pytest.fixture(scope="module")
def raised() -> Raised:
    """The messages of a rule's alerts about a run."""
    table = arrow_tables(EVENTS, RULES)["alerts"]
    assert table.column_names == TABLES["alerts"].names
    rows = table.to_pylist()
    return lambda run, rule: [row["message"] for row in rows if (row["run"], row["rule"]) == (run, rule)]


COLLAPSED = run_with(*history(head=[90, 90, 90], tail=[10, 31, 4]))
NEVER_LEARNED = run_with(*history(head=[90, 90], tail=[30, 4]))
JUST_NOT_COLLAPSED = run_with(*history(head=[90, 90], tail=[31, 5]))


def test_a_class_that_falls_after_it_was_learned_has_collapsed(raised: Raised) -> None:
    assert raised(COLLAPSED, "class_collapsed") == ["accuracy of class tail fell to 4.0 %"]
    assert raised(NEVER_LEARNED, "class_collapsed") == []
    assert raised(JUST_NOT_COLLAPSED, "class_collapsed") == []


FALLING = run_with(*history(head=[50, 40, 30, 20], tail=[40, 39, 38, 37]))
HELD_ONCE = run_with(*history(head=[50, 40, 30, 20], tail=[40, 39, 39, 37]))
TWO_FALLS = run_with(*history(head=[50, 40, 30], tail=[40, 39, 38]))


def test_a_tail_that_falls_some_epochs_in_a_row_is_told_and_the_head_is_not(raised: Raised) -> None:
    assert raised(FALLING, "tail_falling") == ["few-shot accuracy fell in 3 consecutive epochs, to 37.0 %"]
    assert raised(HELD_ONCE, "tail_falling") == []
    assert raised(TWO_FALLS, "tail_falling") == []


FALLS = history(head=[90, 85, 80, 70], tail=[50, 40, 30, 4])
OF_HELD_OUT_IMAGES = run_with(*FALLS)
OF_PSEUDO_LABELS = run_with(*(dataclasses.replace(event, split=UNLABELED) for event in FALLS))


@pytest.mark.parametrize("rule", ["class_collapsed", "tail_falling"])
def test_what_becomes_of_pseudo_labels_in_a_training_is_no_fall_of_a_class(raised: Raised, rule: str) -> None:
    assert len(raised(OF_HELD_OUT_IMAGES, rule)) == 1
    assert raised(OF_PSEUDO_LABELS, rule) == []


# Gaps 20, 30, 35; then 20, 30, 30.
WIDENING = run_with(*history(head=[60, 70, 70], tail=[40, 40, 35]))
WIDENED_ONCE = run_with(*history(head=[60, 70, 70], tail=[40, 40, 40]))


def test_a_gap_between_head_and_tail_that_keeps_growing_is_told(raised: Raised) -> None:
    assert raised(WIDENING, "gap_widening") == ["the head-tail gap grew in 2 consecutive epochs, to 35.0 points"]
    assert raised(WIDENED_ONCE, "gap_widening") == []


# Balanced accuracies .50, .502, .505 and .50, .51, .515: the last two gain .005 and .015 over the first.
STUCK = run_with(*history(head=[60, 60, 60], tail=[40, 40, 41]))
GAINING = run_with(*history(head=[60, 61, 62], tail=[40, 41, 41]))
TOO_SHORT = run_with(*history(head=[60, 60], tail=[40, 40]))


def test_no_gain_over_the_best_before_is_a_plateau(raised: Raised) -> None:
    assert raised(STUCK, "plateau") == ["no gain in 2 epochs, balanced accuracy 50.5 %"]
    assert raised(GAINING, "plateau") == []
    assert raised(TOO_SHORT, "plateau") == []


GOOD = history(head=[60], tail=[40])
LOST = [class_event(epoch=2, loss_sum=math.inf), class_event(epoch=2, split="train", loss_sum=math.nan)]
INSIDE = [an_event(StepEvent, step=step, loss=loss) for step, loss in ((5, 0.5), (9, math.nan), (14, math.nan))]
FINITE = run_with(*GOOD)
NOT_FINITE = run_with(*GOOD, *LOST)
PUT_RIGHT = run_with(*LOST, *history(head=[60, 60, 60], tail=[40, 40, 40]))
NOT_FINITE_INSIDE = run_with(*INSIDE)
PUT_RIGHT_INSIDE = run_with(*INSIDE, an_event(StepEvent, epoch=2, step=5))


def test_a_loss_that_is_no_number_is_told_after_the_epoch_and_inside_it(raised: Raised) -> None:
    assert raised(NOT_FINITE, "nan_loss") == ["the loss is Infinity", "the loss is NaN"]
    assert raised(FINITE, "nan_loss") == []
    # Only the run's last epoch is looked at; the attempt that went on after the loss was lost has put it right.
    assert raised(PUT_RIGHT, "nan_loss") == ["the loss is NaN"]
    assert raised(NOT_FINITE_INSIDE, "nan_loss") == ["the loss is NaN at step 9"]
    assert raised(PUT_RIGHT_INSIDE, "nan_loss") == []


# Held out, no image of either class is taken for the other, at a mean confidence of 90 %.
HELD_OUT = [
    class_event(split="val", class_id=c, correct=10, support=10, predicted=10, confidence_sum=9.0) for c in (0, 1)
]
CELLS = [an_event(ConfusionEvent, split="val", true_class=c, predicted_class=c, count=10) for c in (0, 1)]


def labelled(confidence: float, counts: tuple[int, int]) -> list[Event]:
    return [
        an_event(
            PseudoLabelEvent, class_id=c, labelled_count=(20, 10)[c], pseudo_label_count=counts[c],
            mean_confidence=confidence,
        )
        for c in (0, 1)
    ]  # fmt: skip


UNSURE = run_with(*HELD_OUT, *CELLS, *labelled(0.6, (30, 30)))
# Twice the labels' own imbalance of 2 is the most.
AS_IMBALANCED_AS_MAY_BE = run_with(*HELD_OUT, *CELLS, *labelled(0.8, (40, 10)))
TOO_IMBALANCED = run_with(*HELD_OUT, *CELLS, *labelled(0.8, (50, 10)))
NOTHING_HELD_OUT = run_with(*labelled(0.1, (50, 10)))
TEST_IMAGES_ALONE = run_with(
    *(dataclasses.replace(event, split="test") for event in (*HELD_OUT, *CELLS)), *labelled(0.1, (50, 10))
)


def test_unlabeled_images_that_the_classifier_is_unsure_of_may_be_irrelevant(raised: Raised) -> None:
    assert raised(UNSURE, "unlabeled_irrelevant") == [
        "the unlabeled images may not be of these classes: mean confidence 60.0 %, expected 90.0 %"
    ]
    assert raised(AS_IMBALANCED_AS_MAY_BE, "unlabeled_irrelevant") == []
    assert raised(TOO_IMBALANCED, "unlabeled_irrelevant") == [
        "the unlabeled images may be too imbalanced to help: rho_U about 5.0, rho 2.0"
    ]
    # Without a validation image nothing is known to compare with; test labels influence no choice.
    assert raised(NOTHING_HELD_OUT, "unlabeled_irrelevant") == []
    assert raised(TEST_IMAGES_ALONE, "unlabeled_irrelevant") == []


def test_the_own_rules_are_all_on_and_another_file_may_leave_some_out(tmp_path: Path) -> None:
    own = read_alert_rules()
    assert all(getattr(own, name) is not None for name in AlertRules.model_fields)
    (tmp_path / "mine.yaml").write_text("tail_falling: {epochs: 7}")
    mine = read_alert_rules(tmp_path / "mine.yaml")
    assert mine.tail_falling.epochs == 7 and mine.plateau is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tail_falling: {epochs: 0}", "tail_falling.epochs"),
        ("tail_fallin: {epochs: 3}", "tail_fallin"),
        ("tail_falling: [", "is not YAML"),
        ("- 1", "the file"),
    ],
)
def test_a_bad_rule_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as raised_error:
        read_alert_rules(tmp_path / "bad.yaml")
    assert said in str(raised_error.value) and "\n" not in str(raised_error.value)
