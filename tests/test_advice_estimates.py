"""What a classifier tells of unlabeled images (spark_jobs/advising/estimates.py), where the truth is known."""

import numpy as np
import pytest

from longtail.spark_jobs.advising.estimates import Said, estimates, head_half, profile_imbalance

HEAD_AND_TAIL = np.array([True, False])
NOTHING_KNOWN = 99


def said(*groups: tuple[int, int, int], labelled: bool = True) -> Said:
    """Images in groups: (class, what they are taken for, how many). Those of class NOTHING_KNOWN are the strangest."""
    labels, predicted = (np.repeat([group[i] for group in groups], [group[2] for group in groups]) for i in (0, 1))
    # Within a class they are not all alike, so that a threshold has images on both sides.
    rng = np.random.default_rng(len(labels))
    features = rng.uniform(-10, -5, (len(labels), 2)) + np.where(labels == NOTHING_KNOWN, 5, 0)[:, None]
    return Said(
        predicted=predicted, features=features, head_log_odds=np.zeros(len(labels)), labels=labels if labelled else None
    )


# A tenth of the head is taken for the tail, and two fifths of the tail for the head.
HELD_OUT = [(0, 0, 900), (0, 1, 100), (1, 0, 400), (1, 1, 600)]
VAL = said(*HELD_OUT)
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
def test_a_half_that_is_empty_has_the_largest_imbalance_that_is_told(tail_share: float, rho: float) -> None:
    assert profile_imbalance(tail_share, num_classes=4) == rho


def test_shares_recall_and_precision_are_those_that_the_mistakes_hide() -> None:
    # So many images that chance makes little of their strangeness, in which these do not differ.
    val, unlabeled = (
        said(*((true, taken_for, 10 * count) for true, taken_for, count in groups), labelled=groups is HELD_OUT)
        for groups in (HELD_OUT, UNLABELED)
    )

    found = estimates(val=val, unlabeled=unlabeled, is_head=HEAD_AND_TAIL)

    assert found.relevance.value == pytest.approx(1, abs=0.03)
    assert found.class_shares == pytest.approx([0.75, 0.25], abs=0.02)
    assert found.tail_share.value == pytest.approx(found.class_shares[1], abs=0.01)
    assert found.rho.value == pytest.approx(3, rel=0.1)
    assert found.recall == pytest.approx([0.9, 0.6], abs=0.01)
    assert found.recall_gap.value == pytest.approx(0.3, abs=0.01)
    # Of 3100 taken for the head 2700 are of it, of 900 taken for the tail 600.
    assert found.precision == pytest.approx([2700 / 3100, 600 / 900], abs=0.03)
    assert found.precision_difference.value == pytest.approx(2700 / 3100 - 600 / 900, abs=0.04)
    assert found.right.value == pytest.approx(3300 / 4000, abs=0.03)


def test_every_interval_has_its_estimate_and_here_the_truth_inside() -> None:
    found = estimates(val=VAL, unlabeled=said(*UNLABELED, labelled=False), is_head=HEAD_AND_TAIL)
    for name, truth in (("tail_share", 0.25), ("rho", 3), ("head_recall", 0.9), ("recall_gap", 0.3)):
        estimate = getattr(found, name)
        assert estimate.low < estimate.value < estimate.high and estimate.low < truth < estimate.high, name
        # 1000 held-out images of each class leave little in doubt.
        assert estimate.high - estimate.low < 0.5 * abs(estimate.value), name


@pytest.mark.parametrize("num_others", [1000, 4000, 16000])
def test_images_of_something_else_are_told_from_those_of_the_classes(num_others: int) -> None:
    # They are taken for the head, all of them.
    unlabeled = said(*UNLABELED, (NOTHING_KNOWN, 0, num_others), labelled=False)

    found = estimates(val=VAL, unlabeled=unlabeled, is_head=HEAD_AND_TAIL)

    assert found.relevance.value == pytest.approx(4000 / (4000 + num_others), abs=0.04)
    assert found.tail_share.value == pytest.approx(0.25, abs=0.04)
    assert found.right.value == pytest.approx(3300 / (4000 + num_others), abs=0.04)


def test_images_of_nothing_known_have_no_relevance_and_all_numbers_are_finite() -> None:
    found = estimates(val=VAL, unlabeled=said((NOTHING_KNOWN, 0, 300), labelled=False), is_head=HEAD_AND_TAIL)
    assert found.relevance.value < 0.02
    assert all(np.isfinite([one.value, one.low, one.high]).all() for one in vars(found).values() if hasattr(one, "low"))


def test_few_held_out_images_make_wide_intervals() -> None:
    unlabeled = said(*UNLABELED, labelled=False)
    few = said((0, 0, 9), (0, 1, 1), (1, 0, 1))

    sure, unsure = (estimates(val=val, unlabeled=unlabeled, is_head=HEAD_AND_TAIL).tail_share for val in (VAL, few))

    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)
    assert unsure.low < 0.25 < unsure.high


def test_a_class_without_a_held_out_image_is_estimated_with_the_others_mistakes() -> None:
    val = said((0, 0, 90), (0, 1, 10))
    unlabeled = said((0, 0, 100), (1, 1, 100), (2, 2, 100), labelled=False)
    found = estimates(val=val, unlabeled=unlabeled, is_head=np.array([True, False, False]))
    assert found.recall[0] == pytest.approx(0.9, abs=0.01)
    # One right of two, as the rule of succession has it where nothing was seen.
    assert 0.5 <= found.recall[2] < 0.6


def test_the_same_seed_gives_the_same_estimates() -> None:
    unlabeled = said(*UNLABELED, labelled=False)
    one, two, other = (estimates(val=VAL, unlabeled=unlabeled, is_head=HEAD_AND_TAIL, seed=seed) for seed in (3, 3, 4))
    assert one.tail_share == two.tail_share and one.relevance == two.relevance
    assert one.tail_share != other.tail_share
