"""Totals by class and the scores they give, all by hand."""

import math

import pytest
import torch

from training.metrics import ClassTotals, class_accuracy, summarise

CPU = torch.device("cpu")


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    """Logits whose softmax is the given rows."""
    return torch.tensor(probabilities).log()


def test_totals_count_by_target_and_predictions_by_predicted_class() -> None:
    totals = ClassTotals.zeros(3, CPU)
    totals.add(
        logits_of([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]]),
        targets=torch.tensor([0, 0, 2]),
        losses=torch.tensor([0.5, 2.0, 4.0]),
    )
    lists = totals.as_lists()
    assert lists["support"] == [2, 0, 1]
    assert lists["correct"] == [1, 0, 0]
    assert lists["predicted"] == [2, 1, 0]
    assert lists["loss_sum"] == [2.5, 0, 4]
    assert lists["confidence_sum"] == pytest.approx([0.7 + 0.6, 0, 0.5])


def test_batches_add_up_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(30, 4, generator=generator), torch.randint(4, (30,), generator=generator)
    losses = torch.rand(30, generator=generator)
    whole, parts = ClassTotals.zeros(4, CPU), ClassTotals.zeros(4, CPU)
    whole.add(logits, targets, losses)
    for part in (slice(0, 7), slice(7, 8), slice(8, 30)):
        parts.add(logits[part], targets[part], losses[part])
    assert torch.allclose(parts.values, whole.values, rtol=1e-12)
    assert whole.values[0].sum() == whole.values[2].sum() == 30


def test_counts_stay_exact_beyond_what_float32_can_count() -> None:
    totals = ClassTotals.zeros(1, CPU)
    totals.values[0, 0] = 2**24
    totals.add(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), torch.zeros(1))
    assert totals.as_lists()["support"] == [2**24 + 1]


# Four classes: 8 of 10, none there, 1 of 4, 0 of 2.
TOTALS = {
    "support": [10.0, 0.0, 4.0, 2.0],
    "correct": [8.0, 0.0, 1.0, 0.0],
    "predicted": [9.0, 3.0, 4.0, 0.0],
    "loss_sum": [5.0, 0.0, 6.0, 5.0],
    "confidence_sum": [9.0, 0.0, 3.0, 1.0],
}


def test_an_absent_class_has_no_accuracy_and_one_without_hits_has_zero() -> None:
    assert class_accuracy(TOTALS) == [0.8, None, 0.25, 0.0]


def test_scores_leave_an_absent_class_out() -> None:
    scores = summarise(TOTALS, ["many", "many", "medium", "few"])
    assert scores == {
        "accuracy": 9 / 16,
        "balanced_accuracy": pytest.approx((0.8 + 0.25 + 0) / 3),
        "loss": 1.0,
        "many_shot_accuracy": 0.8,
        "medium_shot_accuracy": 0.25,
        "few_shot_accuracy": 0.0,
    }


def test_a_group_is_the_mean_of_its_classes_not_of_its_images() -> None:
    scores = summarise(TOTALS, ["few", "few", "few", "medium"])
    assert scores["few_shot_accuracy"] == pytest.approx((0.8 + 0.25) / 2)


def test_a_group_without_classes_and_one_without_images_have_no_score() -> None:
    scores = summarise(TOTALS, ["medium", "few", "medium", "medium"])
    assert scores["many_shot_accuracy"] is None
    assert scores["few_shot_accuracy"] is None


def test_a_split_without_images_has_no_score_at_all() -> None:
    empty = ClassTotals.zeros(2, CPU).as_lists()
    assert set(summarise(empty, ["many", "few"]).values()) == {None}


def test_a_loss_that_is_not_a_number_is_not_hidden() -> None:
    totals = ClassTotals.zeros(2, CPU)
    totals.add(torch.full((1, 2), math.nan), torch.tensor([1]), torch.tensor([math.nan]))
    assert math.isnan(summarise(totals.as_lists(), ["many", "few"])["loss"])
