"""Calibration and class shares in numpy: values computed by hand, and generated images whose truth is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from longtail.data.class_shares import class_shares_text, read_class_shares, shares_by_name
from longtail.training.calibration import NUM_BINS, fit_calibration, log_of, reliability
from longtail.training.metrics import Predictions, prediction_scores
from longtail.training.prior_shift import estimate_shares, estimated_with_intervals, log_ratios
from tests.refusals import refused

UNIFORM = np.full(4, 0.25)


def generated(shares: np.ndarray, num_images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,), and exact logits (N, C) for equal class shares: an image's number at its class is higher by 2."""
    labels = rng.choice(len(shares), size=num_images, p=shares)
    numbers = rng.normal(size=(num_images, len(shares)))
    numbers[np.arange(num_images), labels] += 2
    return labels, 2 * numbers


def test_shares_are_those_that_explain_the_probabilities() -> None:
    # Of class 0, 80 % of the images look like 0, of class 1 20 %: 65 % look so if w 0.8 + (1 - w) 0.2 = 0.65.
    probabilities = np.array([[0.8, 0.2]] * 65 + [[0.2, 0.8]] * 35, np.float32)
    np.testing.assert_allclose(estimate_shares(probabilities, np.array([0.5, 0.5])), [0.75, 0.25], atol=1e-4)
    # The same images by a classifier of a training in which class 0 was nine times as frequent.
    odds = probabilities * [0.9, 0.1]
    shifted = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_allclose(estimate_shares(shifted, np.array([0.9, 0.1])), [0.75, 0.25], atol=1e-4)
    corrected = softmax(np.log(shifted) + log_ratios(np.array([0.5, 0.5]), np.array([0.9, 0.1])), axis=1)
    np.testing.assert_allclose(corrected, probabilities, rtol=1e-5)


def test_a_share_of_zero_keeps_logits_finite() -> None:
    ratios = log_ratios(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(ratios, [np.log(2), np.log(2e-12)])


def test_calibration_finds_temperature_and_biases_and_measures_the_gain_on_other_images() -> None:
    rng = np.random.default_rng(0)
    labels, exact = generated(UNIFORM, 4000, rng)
    biases = np.array([1.0, 0.0, -1.0, 0.0])
    found = fit_calibration(softmax(3 * exact - 3 * biases, axis=1), labels)

    assert found.scaling.temperature == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(found.scaling.biases, biases, atol=0.2)
    assert sum(found.scaling.class_shares) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found.scaling.class_shares, np.bincount(labels) / 4000, atol=1e-3)
    assert found.before.error > 0.1 > 0.03 > found.after.error
    assert sum(found.after.images) == found.num_images == 4000
    turned = found.in_order([2, 0, 1, 3]).scaling
    assert turned.biases == [found.scaling.biases[index] for index in (2, 0, 1, 3)]
    with pytest.raises(ValueError, match="19 images are too few"):
        fit_calibration(np.full((19, 2), 0.5), np.zeros(19, int))


def test_a_class_without_held_out_images_keeps_a_finite_bias_and_some_share() -> None:
    labels, exact = generated(np.array([0.5, 0.5, 0.0]), 500, np.random.default_rng(1))
    scaling = fit_calibration(softmax(exact, axis=1), labels).scaling
    assert -10 < scaling.biases[2] < 0 and 0 < scaling.class_shares[2] < 0.05


def test_reliability_is_that_of_evaluations() -> None:
    rng = np.random.default_rng(2)
    labels, exact = generated(UNIFORM, 300, rng)
    predictions = Predictions.zeros(300, torch.device("cpu"))
    predictions.put(slice(0, 300), torch.from_numpy(exact).float(), torch.from_numpy(labels))
    found = reliability(softmax(exact, axis=1).astype(np.float32), labels)
    scores = prediction_scores(predictions, len(UNIFORM))
    assert found.error == pytest.approx(scores["expected_calibration_error"], abs=1e-6)
    assert found.accuracy == pytest.approx((exact.argmax(axis=1) == labels).mean())
    assert len(found.images) == NUM_BINS and sum(found.images) == 300


def test_intervals_hold_the_true_shares_most_times() -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(4):
        labels, exact = generated(np.array([0.6, 0.25, 0.1, 0.05]), 300, rng)
        logits = 2 * (exact + np.log([0.6, 0.25, 0.1, 0.05]))  # too sure of itself
        calibration = fit_calibration(softmax(logits, axis=1), labels)
        truth = rng.dirichlet(np.ones(4))
        _, of_new = generated(truth, 300, rng)
        outputs = softmax(2 * (of_new + np.log([0.6, 0.25, 0.1, 0.05])), axis=1)
        calibrated = calibration.scaling.probabilities(log_of(outputs)).astype(np.float32)
        old = np.array(calibration.scaling.class_shares)
        found = estimated_with_intervals(calibrated, old, calibration=calibration)
        assert (found.low <= found.shares).all() and (found.shares <= found.high).all()
        held += ((found.low <= truth) & (truth <= found.high)).tolist()
        assert np.abs(found.shares - truth).sum() < np.abs(old - truth).sum()
    assert sum(held) >= 13, "of 16; 15.2 are expected of exact intervals"


def test_a_file_of_shares_is_read_by_class_name(tmp_path: Path) -> None:
    file = tmp_path / "shares.csv"
    file.write_text(class_shares_text(["ant", 'a "bee", or so'], {"share": [0.25, 0.75], "low": [0.2, 0.7]}))
    assert read_class_shares(file, ['a "bee", or so', "ant"]) == [0.75, 0.25]
    file.write_text("\ufeffclass_name,share\nant,30\nbee,10\n")
    assert read_class_shares(file, ["ant", "bee"]) == [0.75, 0.25]
    assert shares_by_name({"ant": 1, "bee": 0}, ["ant", "bee"], where="prior") == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no columns class_name and share"),
        ("name,share\nant,1\n", "has no columns class_name and share"),
        ("class_name,share\nant,1\n", "has no share of bee"),
        ("class_name,share\nant,1\nbee,1\nant,2\n", "has the class 'ant' twice"),
        ("class_name,share\nant,1\nbee,1\ncat,2\n", "has the class 'cat', the checkpoint has ant, bee"),
        ("class_name,share\nant,-1\nbee,1\n", "has the share '-1' of 'ant': give a number from 0 on"),
        ("class_name,share\nant,nan\nbee,1\n", "has the share 'nan' of 'ant'"),
        ("class_name,share\nant\nbee,1\n", "has no columns class_name and share"),
        ("class_name,share\nant,0\nbee,0\n", "add up to 0"),
        ("class_name,share\nant,1e308\nbee,1e308\n", "add up to inf"),
        (b"\xff\xfe", "cannot read the class shares"),
    ],
)
def test_a_bad_file_of_shares_is_refused_by_name(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "shares.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused() as messages:
        read_class_shares(file, ["ant", "bee"])
    assert message in messages[0] and "shares.csv" in messages[0]
