"""Alerts (streaming/alerts/): each rule speaks when its condition holds, by hand, and is silent one step before."""

import dataclasses
import math
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

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
from tests.events import an_event, batch_tables, class_event

HEAD, TAIL = 0, 1


def history(head: list[int], tail: list[int], *, num_epochs: int = 100) -> list[ClassEvent]:
    """A run of a head and a tail class of 100 test images each: per epoch, how many are right."""
    shared = {"support": 100, "num_epochs": num_epochs}
    events = []
    for epoch, (right_head, right_tail) in enumerate(zip(head, tail, strict=True), start=1):
        at = {**shared, "epoch": epoch, "emitted_at": 1000.0 + epoch}
        events.append(class_event(class_id=HEAD, shot_group="many", correct=right_head, **at))
        events.append(class_event(class_id=TAIL, shot_group="few", class_name="tail", correct=right_tail, **at))
    return events


def raised(spark: SparkSession, events: list[Event], **rules: dict) -> list[tuple[str, str]]:
    """(rule, message) of the alerts."""
    found = batch_tables(spark, events, AlertRules.model_validate(rules))["alerts"]
    assert found.columns == TABLES["alerts"].names
    return [(row["rule"], row["message"]) for row in found.collect()]


def test_a_class_that_falls_after_it_was_learned_has_collapsed(spark: SparkSession) -> None:
    rule = {"once_above": 0.3, "now_below": 0.05}
    falls = history(head=[90, 90, 90], tail=[10, 31, 4])
    assert raised(spark, falls, class_collapsed=rule) == [("class_collapsed", "accuracy of class tail fell to 4.0 %")]
    assert raised(spark, history(head=[90, 90], tail=[30, 4]), class_collapsed=rule) == []
    assert raised(spark, history(head=[90, 90], tail=[31, 5]), class_collapsed=rule) == []


def test_a_tail_that_falls_some_epochs_in_a_row_is_told_and_the_head_is_not(spark: SparkSession) -> None:
    rule = {"epochs": 3}
    falls = history(head=[50, 40, 30, 20], tail=[40, 39, 38, 37])
    told = [("tail_falling", "few-shot accuracy fell in 3 consecutive epochs, to 37.0 %")]
    assert raised(spark, falls, tail_falling=rule) == told
    assert raised(spark, history(head=[50, 40, 30, 20], tail=[40, 39, 39, 37]), tail_falling=rule) == []
    # Three epochs are two falls.
    assert raised(spark, history(head=[50, 40, 30], tail=[40, 39, 38]), tail_falling=rule) == []


def test_what_becomes_of_pseudo_labels_in_a_training_is_no_fall_of_a_class(spark: SparkSession) -> None:
    falls = history(head=[90, 80, 70], tail=[40, 30, 4])
    of_pseudo_labels = [dataclasses.replace(event, split=UNLABELED) for event in falls]
    rules = {"class_collapsed": {"once_above": 0.3, "now_below": 0.05}, "tail_falling": {"epochs": 2}}
    assert {rule for rule, _ in raised(spark, falls, **rules)} == set(rules)
    assert raised(spark, of_pseudo_labels, **rules) == []


def test_a_gap_between_head_and_tail_that_keeps_growing_is_told(spark: SparkSession) -> None:
    rule = {"epochs": 2}
    told = [("gap_widening", "the head-tail gap grew in 2 consecutive epochs, to 35.0 points")]
    # Gaps 20, 30, 35; then 20, 30, 30.
    assert raised(spark, history(head=[60, 70, 70], tail=[40, 40, 35]), gap_widening=rule) == told
    assert raised(spark, history(head=[60, 70, 70], tail=[40, 40, 40]), gap_widening=rule) == []


def test_no_gain_over_the_best_before_is_a_plateau(spark: SparkSession) -> None:
    rule = {"epochs": 2, "gain": 0.01}
    # Balanced accuracies .50, .502, .505 and .50, .502, .512: the last two gain .005 and .012 over the first.
    told = [("plateau", "no gain in 2 epochs, balanced accuracy 50.5 %")]
    assert raised(spark, history(head=[60, 60, 60], tail=[40, 40, 41]), plateau=rule) == told
    assert raised(spark, history(head=[60, 61, 62], tail=[40, 41, 41]), plateau=rule) == []
    assert raised(spark, history(head=[60, 60], tail=[40, 40]), plateau=rule) == []


@pytest.mark.long
def test_a_loss_that_is_no_number_is_told_after_the_epoch_and_inside_it(spark: SparkSession) -> None:
    rule = {"nan_loss": {}}
    good = history(head=[60], tail=[40])
    lost = [class_event(epoch=2, loss_sum=math.inf), class_event(epoch=2, split="train", loss_sum=math.nan)]
    told = [("nan_loss", "the loss is Infinity"), ("nan_loss", "the loss is NaN")]
    assert raised(spark, [*good, *lost], **rule) == told
    assert raised(spark, good, **rule) == []
    # Only the run's last epoch is looked at; the attempt that went on after the loss was lost has put it right.
    assert raised(spark, [*lost, *history(head=[60, 60, 60], tail=[40, 40, 40])], **rule) == [told[1]]
    inside = [an_event(StepEvent, step=step, loss=loss) for step, loss in ((5, 0.5), (9, math.nan), (14, math.nan))]
    assert raised(spark, inside, **rule) == [("nan_loss", "the loss is NaN at step 9")]
    assert raised(spark, [*inside, an_event(StepEvent, epoch=2, step=5)], **rule) == []


@pytest.mark.long
def test_unlabeled_images_that_the_classifier_is_unsure_of_may_be_irrelevant(spark: SparkSession) -> None:
    """Held out, both classes are told apart without a mistake, at a mean confidence of 90 %."""
    rule = {"unlabeled_irrelevant": {"confidence_drop": 0.2, "rho_factor": 2}}
    held_out = [class_event(class_id=c, correct=10, support=10, predicted=10, confidence_sum=9.0) for c in (0, 1)]
    cells = [an_event(ConfusionEvent, true_class=c, predicted_class=c, count=10) for c in (0, 1)]

    def labelled(confidence: float, counts: tuple[int, int]) -> list[Event]:
        return [
            an_event(
                PseudoLabelEvent, class_id=c, labelled_count=(20, 10)[c], pseudo_label_count=counts[c],
                mean_confidence=confidence,
            )
            for c in (0, 1)
        ]  # fmt: skip

    unsure = "the unlabeled images may not be of these classes: mean confidence 60.0 %, expected 90.0 %"
    assert raised(spark, [*held_out, *cells, *labelled(0.6, (30, 30))], **rule) == [("unlabeled_irrelevant", unsure)]
    # Twice the labels' own imbalance of 2 is the most.
    assert raised(spark, [*held_out, *cells, *labelled(0.8, (40, 10))], **rule) == []
    imbalanced = "the unlabeled images may be too imbalanced to help: rho_U about 5.0, rho 2.0"
    assert raised(spark, [*held_out, *cells, *labelled(0.8, (50, 10))], **rule) == [
        ("unlabeled_irrelevant", imbalanced)
    ]
    # Without any held-out image nothing is known to compare with.
    assert raised(spark, labelled(0.1, (50, 10)), **rule) == []


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
        ("tail_falling: [", "is not valid YAML"),
        ("- 1", "the file"),
    ],
)
def test_a_bad_rule_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as raised_error:
        read_alert_rules(tmp_path / "bad.yaml")
    assert said in str(raised_error.value) and "\n" not in str(raised_error.value)
