"""Drift of predictions (streaming/drift.py): what it says of windows with and without a cause. No Spark."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import gammaincc

from longtail.streaming.drift import CONFIDENCE_BINS, FEWEST_IMAGES, PredictionSums, findings, novelty_bound

NAMES = ["head", "middle", "tail"]
SHARES = (0.7, 0.25, 0.05)


def predictions(*counts: int, confidence: float = 0.8, spread: float = 0.1) -> PredictionSums:
    """Half of the images are `spread` more confident than the mean, half as much less."""
    number = sum(counts)
    return PredictionSums(np.array(counts), number * confidence, number * (confidence**2 + spread**2))


def drawn(generator: np.random.Generator, number: int, shares: tuple[float, ...] = SHARES) -> PredictionSums:
    confidence = generator.beta(8, 2, number)
    return PredictionSums(generator.multinomial(number, shares), confidence.sum(), (confidence**2).sum())


def test_other_class_shares_are_told_with_the_classes_that_changed_most() -> None:
    assert findings(predictions(300, 180, 20), predictions(700, 250, 50), NAMES) == [
        "predicted class shares have changed: middle 25.0 -> 36.0 %, head 70.0 -> 60.0 %, tail 5.0 -> 4.0 %"
    ]


def test_the_shares_are_compared_by_the_likelihood_ratio() -> None:
    # Two classes, one degree of freedom: G = 2 sum observed ln(observed / expected), p = Q(1/2, G/2).
    reference = np.array([500.0, 500.0])
    for count in range(250, 200, -1):
        table = np.array([reference, [count, 500 - count]])
        expected = table.sum(axis=0) * table.sum(axis=1)[:, None] / table.sum()
        # With Yates' correction, as is usual for one degree of freedom.
        corrected = table + 0.5 * np.sign(expected - table) * np.minimum(1, 2 * np.abs(expected - table))
        p_value = gammaincc(0.5, (corrected * np.log(corrected / expected)).sum())
        found = findings(predictions(count, 500 - count), predictions(500, 500), NAMES[:2])
        assert bool(found) == (p_value < 1e-4)


def test_a_class_that_is_never_predicted_any_more_is_told_once_there_are_enough_images() -> None:
    # Wilson's lower bound of 50 in 1000 is 0.0381: 0.9619^n < 1e-4 / 3 from n = 266 on.
    reference = predictions(700, 250, 50)
    told = [any("never" in line for line in findings(predictions(n - n // 4, n // 4, 0), reference, NAMES))
            for n in (264, 268)]  # fmt: skip
    assert told == [False, True]
    assert "never predicted any more: tail (5.0 % before)" in findings(predictions(225, 75, 0), reference, NAMES)


def test_confidence_that_falls_is_told_and_confidence_that_rises_is_not() -> None:
    reference = predictions(700, 250, 50)
    assert findings(predictions(350, 125, 25, confidence=0.75), reference, NAMES) == [
        "confidence has fallen: 0.800 -> 0.750 on average"
    ]
    assert findings(predictions(350, 125, 25, confidence=0.85), reference, NAMES) == []


def test_novel_images_are_those_less_confident_than_nearly_all_of_the_reference() -> None:
    by_confidence = np.zeros(CONFIDENCE_BINS, int)
    by_confidence[[3, 9, 19]] = [4, 6, 990]
    assert novelty_bound(by_confidence) == 19  # 10 of 1000 are in the bins before
    by_confidence[9] = 7
    assert novelty_bound(by_confidence) == 9
    reference = dataclasses.replace(predictions(700, 250, 50), novel=10)
    # Of k + 10 novel ones as many as k in the window of 500, where a third is expected: binomial, 1 - F(k - 1) < 1e-4.
    told = [findings(dataclasses.replace(predictions(350, 125, 25), novel=k), reference, NAMES) for k in range(40)]
    chances = [
        sum(math.comb(k + 10, i) * 2 ** (k + 10 - i) for i in range(k, k + 11)) / 3 ** (k + 10) for k in range(40)
    ]
    assert [bool(lines) for lines in told] == [chance < 1e-4 for chance in chances]
    assert told[30] == ["novel images: 6.0 % are less confident than all but 1.0 % of the reference"]


def test_too_few_images_say_nothing() -> None:
    few = predictions(0, 0, FEWEST_IMAGES - 1)
    assert findings(few, predictions(700, 250, 50), NAMES) == []
    assert findings(predictions(0, 0, FEWEST_IMAGES), predictions(700, 250, 50), NAMES)


@pytest.mark.parametrize("number", [100, 1000])
def test_windows_without_a_cause_hardly_ever_speak_up(number: int) -> None:
    generator = np.random.default_rng(0)
    false_alarms = sum(
        bool(findings(drawn(generator, number), drawn(generator, 1000), NAMES)) for _ in range(1000)
    )  # fmt: skip
    assert false_alarms <= 3  # three tests at 1e-4: 0.3 are expected


def test_windows_of_another_mix_are_told_at_once() -> None:
    generator = np.random.default_rng(0)
    reference = drawn(generator, 1000)
    assert all(findings(drawn(generator, 300, (0.5, 0.25, 0.25)), reference, NAMES) for _ in range(20))
