"""Theorem 1 beside trials (spark_jobs/studies/threshold_bias.py)."""

from statistics import NormalDist

import numpy as np
import pytest

from longtail.spark_jobs.studies.threshold_bias import measured_bias, predicted_bias

HEAD_AND_TAIL = np.array([True, False])


def cells(*found: tuple[int, int, int]) -> list[dict[str, int]]:
    """target, predicted, count"""
    return [{"target": target, "predicted": predicted, "count": count} for target, predicted, count in found]


def halves(head_recall: float, tail_recall: float, num: int = 1_000_000) -> list[dict[str, int]]:
    right = round(num * head_recall), round(num * tail_recall)
    return cells((0, 0, right[0]), (0, 1, num - right[0]), (1, 1, right[1]), (1, 0, num - right[1]))


@pytest.mark.parametrize("threshold", [-1.5, -0.4, 0, 0.7])
@pytest.mark.parametrize("sigma", [1, 2])
def test_the_threshold_of_two_normal_distributions_is_found_again(threshold: float, sigma: float) -> None:
    """Means 1 and -1, so that a half gap is 1."""
    head_recall = 1 - NormalDist(1, sigma).cdf(threshold)
    tail_recall = NormalDist(-1, sigma).cdf(threshold)
    assert measured_bias(halves(head_recall, tail_recall), HEAD_AND_TAIL) == pytest.approx(threshold, abs=0.01)


def test_a_confusion_within_a_half_counts_as_right_and_each_class_weighs_as_much() -> None:
    """Classes 2 and 0 are the head. Recall of the halves: (0.9 + 0.7) / 2 and (0.6 + 1) / 2."""
    found = cells(
        (2, 2, 500), (2, 0, 400), (2, 1, 100), (0, 2, 7), (0, 3, 3), (1, 3, 30), (1, 1, 30), (1, 2, 40), (3, 3, 9)
    )  # fmt: skip
    assert measured_bias(found, np.array([True, False, True, False])) == pytest.approx(0)


@pytest.mark.parametrize(
    "found",
    [
        cells((0, 0, 5)),  # no test image of the tail
        halves(1, 0.5),
        halves(0.5, 0),
        halves(0.3, 0.6),  # both together are more often wrong than right
    ],
)
def test_there_is_no_threshold_where_none_can_be_told(found: list[dict[str, int]]) -> None:
    assert measured_bias(found, HEAD_AND_TAIL) is None


def test_the_prediction_is_p_minus_q_where_both_are_known() -> None:
    def row(p: float | None, q: float | None) -> dict[str, float | None]:
        return {"pseudo_label_head_precision": p, "pseudo_label_tail_precision": q}

    assert predicted_bias(row(0.75, 0.5)) == 0.25
    assert predicted_bias(row(None, 0.5)) is predicted_bias(row(0.5, None)) is None
