"""Estimates about unlabeled images (spark_jobs/advising/estimates.py) where the true values are known."""

import numpy as np
import pytest

from longtail.data.longtail import head_half
from longtail.spark_jobs.advising.classifier_output import ClassifierOutput, HeldOutOutput
from longtail.spark_jobs.advising.estimates import estimate_unlabeled, profile_imbalance

HEAD_AND_TAIL = np.array([True, False])
UNKNOWN_CLASS = 99


def held_out(*groups: tuple[int, int, int]) -> HeldOutOutput:
    """Images in groups: (class, predicted class, number)."""
    labels, predicted, features = outputs(groups)
    return HeldOutOutput(predicted=predicted, features=features, head_log_odds=np.zeros(len(labels)), labels=labels)


def unlabeled_images(*groups: tuple[int, int, int]) -> ClassifierOutput:
    labels, predicted, features = outputs(groups)
    return ClassifierOutput(predicted=predicted, features=features, head_log_odds=np.zeros(len(labels)))


def outputs(groups: tuple[tuple[int, int, int], ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and features; images of UNKNOWN_CLASS have the highest novelty."""
    labels, predicted = (np.repeat([group[i] for group in groups], [group[2] for group in groups]) for i in (0, 1))
    # Images of a class differ, so that a threshold has images on both sides.
    rng = np.random.default_rng(len(labels))
    features = rng.uniform(-10, -5, (len(labels), 2)) + np.where(labels == UNKNOWN_CLASS, 5, 0)[:, None]
    return labels, predicted, features


# A tenth of the head is predicted as the tail, and two fifths of the tail as the head.
HELD_OUT = [(0, 0, 900), (0, 1, 100), (1, 0, 400), (1, 1, 600)]
VAL = held_out(*HELD_OUT)
UNLABELED = [(0, 0, 2700), (0, 1, 300), (1, 0, 400), (1, 1, 600)]  # 3000 of the head, 1000 of the tail


def test_the_head_half_has_most_labels_and_of_an_odd_number_is_the_smaller() -> None:
    assert head_half([3, 50, 7, 9]).tolist() == [False, True, False, True]
    assert head_half([5, 5, 5]).tolist() == [True, False, False]


@pytest.mark.parametrize(("tail_share", "rho"), [(0.25, 3), (0.5, 1), (0.8, 0.25)])
def test_the_profile_of_two_classes_has_the_ratio_of_their_shares(tail_share: float, rho: float) -> None:
    assert profile_imbalance(tail_share, num_classes=2) == pytest.approx(rho, rel=1e-9)


def test_the_profile_of_three_classes_falls_by_the_root_of_rho() -> None:
    # 1, 1/3, 1/9: the tail half has the last two.
    assert profile_imbalance((1 / 3 + 1 / 9) / (1 + 1 / 3 + 1 / 9), num_classes=3) == pytest.approx(9, rel=1e-9)


@pytest.mark.parametrize(("tail_share", "rho"), [(0.0, 1e4), (1.0, 1e-4)])
def test_an_empty_half_has_the_largest_imbalance_that_is_reported(tail_share: float, rho: float) -> None:
    assert profile_imbalance(tail_share, num_classes=4) == rho


@pytest.mark.long
def test_shares_recall_and_precision_are_corrected_for_mistakes() -> None:
    # Many images, so that novelty scores, which do not differ between these, hardly vary randomly.
    val, unlabeled = (
        make(*((label, predicted, 10 * count) for label, predicted, count in groups))
        for make, groups in ((held_out, HELD_OUT), (unlabeled_images, UNLABELED))
    )

    found = estimate_unlabeled(val, unlabeled, is_head=HEAD_AND_TAIL)

    assert found.relevance.value == pytest.approx(1, abs=0.03)
    assert found.class_shares.value == pytest.approx([0.75, 0.25], abs=0.03)
    assert found.tail_share.value == pytest.approx(found.class_shares.value[1], abs=0.02)
    for of_classes in (found.class_shares, found.recall, found.precision):
        assert (of_classes.low <= of_classes.value).all() and (of_classes.value <= of_classes.high).all()
        assert (of_classes.high - of_classes.low < 0.15).all()
    assert found.missed.value == pytest.approx(0.25, abs=0.01) and found.held_out == (10_000, 10_000)
    assert found.rho.value == pytest.approx(3, rel=0.1)
    assert found.recall.value == pytest.approx([0.9, 0.6], abs=0.01)
    assert found.recall_gap.value == pytest.approx(0.3, abs=0.01)
    # Of 3100 predicted as the head 2700 belong to it, of 900 predicted as the tail 600.
    assert found.precision.value == pytest.approx([2700 / 3100, 600 / 900], abs=0.03)
    assert found.precision_difference.value == pytest.approx(2700 / 3100 - 600 / 900, abs=0.04)
    assert found.pseudo_label_accuracy.value == pytest.approx(3300 / 4000, abs=0.03)


def test_every_interval_contains_its_estimate_and_here_the_true_value() -> None:
    found = estimate_unlabeled(VAL, unlabeled_images(*UNLABELED), is_head=HEAD_AND_TAIL)
    for name, truth in (("tail_share", 0.25), ("rho", 3), ("head_recall", 0.9), ("recall_gap", 0.3)):
        estimate = getattr(found, name)
        assert estimate.low < estimate.value < estimate.high and estimate.low < truth < estimate.high, name
        # 1000 held-out images of each class leave little in doubt.
        assert estimate.high - estimate.low < 0.5 * abs(estimate.value), name


@pytest.mark.parametrize("num_others", [1000, 4000, 16000])
def test_images_of_other_classes_are_distinguished_from_relevant_ones(num_others: int) -> None:
    # All of them are predicted as the head.
    unlabeled = unlabeled_images(*UNLABELED, (UNKNOWN_CLASS, 0, num_others))

    found = estimate_unlabeled(VAL, unlabeled, is_head=HEAD_AND_TAIL)

    assert found.relevance.value == pytest.approx(4000 / (4000 + num_others), abs=0.04)
    assert found.tail_share.value == pytest.approx(0.25, abs=0.04)
    assert found.pseudo_label_accuracy.value == pytest.approx(3300 / 4000, abs=0.04)


def test_images_of_unknown_classes_have_no_relevance_and_all_numbers_are_finite() -> None:
    found = estimate_unlabeled(VAL, unlabeled_images((UNKNOWN_CLASS, 0, 300)), is_head=HEAD_AND_TAIL)
    assert found.relevance.value < 0.02
    assert all(np.isfinite([one.value, one.low, one.high]).all() for one in vars(found).values() if hasattr(one, "low"))


def test_few_held_out_images_make_wide_intervals() -> None:
    unlabeled = unlabeled_images(*UNLABELED)
    few = held_out((0, 0, 9), (0, 1, 1), (1, 0, 1))

    sure, unsure = (estimate_unlabeled(val, unlabeled, is_head=HEAD_AND_TAIL).tail_share for val in (VAL, few))

    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)
    assert unsure.low < 0.25 < unsure.high


def test_a_class_without_a_held_out_image_is_estimated_with_the_others_mistakes() -> None:
    val = held_out((0, 0, 90), (0, 1, 10))
    unlabeled = unlabeled_images((0, 0, 100), (1, 1, 100), (2, 2, 100))
    found = estimate_unlabeled(val, unlabeled, is_head=np.array([True, False, False]))
    assert found.recall.value[0] == pytest.approx(0.9, abs=0.01)
    # One correct of two: the rule of succession without an observation.
    assert 0.5 <= found.recall.value[2] < 0.6


def test_the_same_seed_gives_the_same_estimates() -> None:
    unlabeled = unlabeled_images(*UNLABELED)
    one, two, other = (estimate_unlabeled(VAL, unlabeled, is_head=HEAD_AND_TAIL, seed=seed) for seed in (3, 3, 4))
    assert one.tail_share == two.tail_share and one.relevance == two.relevance
    assert one.tail_share != other.tail_share
