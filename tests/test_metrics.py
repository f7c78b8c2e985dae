"""Totals by class and the scores they give, all by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from longtail.training.metrics import (
    ClassTotals,
    Predictions,
    calibration_differences,
    class_accuracy,
    class_f1,
    class_precision,
    expected_calibration_error,
    per_class_scores,
    prediction_scores,
    summarise,
)

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


def test_totals_of_batches_add_up_to_those_of_the_split() -> None:
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


def test_precision_is_none_without_predictions_and_f1_without_either() -> None:
    totals = {"support": [10, 0, 4, 0], "correct": [8, 0, 0, 0], "predicted": [9, 3, 0, 0]}
    assert class_precision(totals) == [8 / 9, 0, None, None]
    # 2 * 8 / (10 + 9): the harmonic mean of 8/10 and 8/9.
    assert class_f1(totals) == [16 / 19, 0, 0, None]
    assert per_class_scores(totals)["macro_f1"] == pytest.approx(16 / 19 / 3)


def random_predictions(num_images: int = 500, num_classes: int = 8) -> tuple[Predictions, np.ndarray]:
    """Predictions of half-informed logits, and the float64 probabilities (N, C) they came from."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(num_images, num_classes, generator=generator)
    targets = torch.randint(num_classes - 1, (num_images,), generator=generator)  # the last class is absent
    logits[torch.arange(num_images), targets] += 1
    predictions = Predictions.zeros(num_images, CPU)
    for index in torch.randperm(num_images, generator=generator).split(64):
        predictions.put(index, logits[index], targets[index])
    exponentials = np.exp(logits.double().numpy())
    return predictions, exponentials / exponentials.sum(axis=1, keepdims=True)


def test_precision_recall_and_f1_are_those_of_scikit_learn() -> None:
    predictions, probabilities = random_predictions()
    targets, guesses = predictions.targets.numpy(), probabilities.argmax(axis=1)
    totals = {
        "support": np.bincount(targets, minlength=8).tolist(),
        "correct": np.bincount(targets[targets == guesses], minlength=8).tolist(),
        "predicted": np.bincount(guesses, minlength=8).tolist(),
    }
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(targets, guesses, zero_division=0)
    scores = per_class_scores(totals)
    assert scores["class_precision"] == pytest.approx(precision)
    assert scores["class_accuracy"][:7] == pytest.approx(recall[:7]) and scores["class_accuracy"][7] is None
    assert scores["class_f1"] == pytest.approx(f1)
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(targets, guesses, average="macro"))


def test_top_5_accuracy_and_the_confusion_matrix_are_those_of_scikit_learn() -> None:
    predictions, probabilities = random_predictions()
    targets, scores = predictions.targets.numpy(), prediction_scores(predictions, 8)
    expected = metrics.top_k_accuracy_score(targets, probabilities, k=5, labels=range(8))
    assert scores["top5_accuracy"] == pytest.approx(expected)
    assert expected < 1
    matrix = np.zeros((8, 8), int)
    confusion = scores["confusion"]
    matrix[confusion["target"], confusion["predicted"]] = confusion["count"]
    assert np.array_equal(matrix, metrics.confusion_matrix(targets, probabilities.argmax(axis=1), labels=range(8)))
    assert min(confusion["count"]) > 0, "only the cells that are not zero"


def test_top_5_accuracy_of_five_classes_is_none() -> None:
    predictions, _ = random_predictions(num_classes=5)
    assert prediction_scores(predictions, 5)["top5_accuracy"] is None


def predictions_of(confidences: list[float], right: list[bool]) -> Predictions:
    """Predictions for images of class 0: class 0 or class 1."""
    rows = [[0.0] * len(right), [0.0 if r else 1.0 for r in right], confidences, [1.0] * len(right)]
    return Predictions(torch.tensor(rows, dtype=torch.float64))


def calibration_error(predictions: Predictions, **bins: int) -> float | None:
    differences = calibration_differences(predictions, **bins).tolist()
    return expected_calibration_error(differences, len(predictions.targets))


def test_calibration_error_by_hand() -> None:
    # Bins of a fifth: (0.8, 1] has confidences 0.9 and 1.0 and accuracy 1/2, |0.5 - 0.95| = 0.45 for two images;
    # (0.4, 0.6] has 0.6, its upper edge, and accuracy 1: 0.4 for one; (0.6, 0.8] has 0.7, wrong: 0.7 for one.
    predictions = predictions_of([0.9, 1.0, 0.6, 0.7], [True, False, True, False])
    assert calibration_error(predictions, num_bins=5) == pytest.approx((2 * 0.45 + 0.4 + 0.7) / 4)


def test_calibration_error_has_15_bins_and_agrees_with_a_sum_over_them() -> None:
    predictions, probabilities = random_predictions()
    confidences = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == predictions.targets.numpy()
    expected = 0.0
    for lower in np.arange(15) / 15:
        inside = (confidences > lower) & (confidences <= lower + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidences[inside].mean())
    assert calibration_error(predictions) == pytest.approx(expected, abs=1e-6)
    assert expected > 0.01


def test_a_perfectly_calibrated_classifier_has_no_error_and_a_sure_and_wrong_one_has_one() -> None:
    assert calibration_error(predictions_of([0.75] * 4, [True, True, True, False])) == 0
    assert calibration_error(predictions_of([1.0] * 4, [False] * 4)) == 1


def test_a_split_without_images_has_neither_top_5_nor_calibration() -> None:
    scores = prediction_scores(Predictions.zeros(0, CPU), 8)
    assert scores["top5_accuracy"] is None and scores["expected_calibration_error"] is None
    assert scores["confusion"] == {"target": [], "predicted": [], "count": []}
