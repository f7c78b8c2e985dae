"""Alerts (streaming/alerts/): each rule speaks when its condition holds, by hand, and is silent one step before."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import UNLABELED
from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.events.schema import (
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
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
        **dict.fromkeys(("shares_drifted", "class_vanished", "confidence_fell", "images_novel"), {"alpha": 1e-3}),
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
def rows() -> list[dict[str, Any]]:
    table = arrow_tables(EVENTS, RULES)["alerts"]
    assert table.column_names == TABLES["alerts"].names
    return table.to_pylist()


@pytest.fixture(scope="module")
def raised(rows: list[dict[str, Any]]) -> Raised:
    """The messages of a rule's alerts about a run."""
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
OF_ROTATIONS = run_with(*(dataclasses.replace(event, phase="pretrain_rot") for event in FALLS))


@pytest.mark.parametrize("rule", ["class_collapsed", "tail_falling"])
def test_pseudo_labels_in_a_training_and_what_a_pre_training_learns_are_no_fall_of_a_class(
    raised: Raised, rule: str
) -> None:
    assert len(raised(OF_HELD_OUT_IMAGES, rule)) == 1
    assert raised(OF_PSEUDO_LABELS, rule) == raised(OF_ROTATIONS, rule) == []


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


def window(number: int, head: int, tail: int, *, stream: str = "inbox", confidence: float = 0.9, novel: int = 0,
           reference: bool = True) -> list[Event]:  # fmt: skip
    """A window of as many images that are predicted as each class; the reference has 900 and 100, of which 5 novel."""
    return [
        an_event(
            PredictionEvent, stream=stream, window_start=600.0 * number, class_id=c, class_name=("head", "tail")[c],
            predicted=count, novel=novel if c == 0 else 0, confidence_sum=confidence * count,
            confidence_squares=(confidence**2 + 0.01) * count, reference_novel=(5, 0)[c] if reference else None,
            reference_predicted=(900, 100)[c] if reference else None,
            reference_confidence_sum=(810.0, 90.0)[c] if reference else None,
            reference_confidence_squares=(738.0, 82.0)[c] if reference else None,
        )
        for c, count in enumerate((head, tail))
    ]  # fmt: skip


AS_BEFORE = run_with(*window(1, 0, 500, reference=False), *window(2, 450, 50), *window(3, 45, 0))
DRIFTED = run_with(*window(1, 0, 500), *window(2, 450, 50), *window(3, 0, 500), *window(4, 300, 200, confidence=0.8))
PUT_RIGHT_SINCE = run_with(*window(1, 500, 0), *window(2, 450, 50))
TWO_STREAMS = run_with(*window(1, 500, 0), *window(9, 450, 50, novel=30, stream="other"))
FOR_LONG = run_with(*(event for number in range(30) for event in window(number, 500, 0)))
NOT_A_NUMBER = run_with(*window(1, 450, 50, confidence=math.nan))


def test_predictions_that_drift_are_told_for_the_latest_window_of_each_stream(raised: Raised) -> None:
    rules = ("shares_drifted", "class_vanished", "confidence_fell", "images_novel")
    found = {run: {rule: raised(run, rule) for rule in rules if raised(run, rule)} for run in (
        AS_BEFORE, DRIFTED, PUT_RIGHT_SINCE, TWO_STREAMS, NOT_A_NUMBER
    )}  # fmt: skip
    assert found[DRIFTED] == {
        "shares_drifted": ["predicted class shares have changed: head 90.0 -> 60.0 %, tail 10.0 -> 40.0 %"],
        "confidence_fell": ["confidence has fallen: 0.900 -> 0.800 on average"],
    }
    assert found[AS_BEFORE] == found[PUT_RIGHT_SINCE] == found[NOT_A_NUMBER] == {}
    vanished, shares = "never predicted any more: tail (10.0 % before)", "tail 10.0 -> 0.0 %, head 90.0 -> 100.0 %"
    assert found[TWO_STREAMS] == {
        "shares_drifted": [f"predicted class shares have changed: {shares}"],
        "class_vanished": [vanished],
        "images_novel": ["novel images: 6.0 % are less confident than all but 0.5 % of the reference"],
    }


def test_an_alert_of_drift_says_since_when(rows: list[dict[str, Any]]) -> None:
    alert_places = {(row["run"], row["rule"]): [row["split"]] for row in rows}
    assert alert_places[DRIFTED, "shares_drifted"] == ["inbox since 1970-01-01 00:30:00 UTC"]
    assert alert_places[DRIFTED, "confidence_fell"] == ["inbox since 1970-01-01 00:40:00 UTC"]
    assert alert_places[TWO_STREAMS, "images_novel"] == ["other since 1970-01-01 01:30:00 UTC"]
    assert alert_places[FOR_LONG, "class_vanished"] == ["inbox for 20 windows and more"]


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
