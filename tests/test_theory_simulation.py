"""The three theorems' bounds, simulations and judgements (training/theory), against hand-worked values.

The explicit draws make every sample X of the model, without the sums that the simulations draw instead.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from longtail.conf.theory_grid import Point, T1Point, T2Point, T3Point
from longtail.training.theory import t1, t2, t3
from longtail.training.theory.blocks import BlockSums
from longtail.training.theory.evaluation import block_sizes, judge, proportion_interval, simulate_block
from longtail.training.theory.statements import statements, verdict

CONFIDENCE = 0.99


def t1_point(**changes: Any) -> T1Point:
    known = {"mu1": 1, "mu2": -1, "sigma": 1, "p": 0.9, "q": 0.5}
    return T1Point(**{**known, "num_unlabeled": 10_000, "rho_unlabeled": 1, "delta": 0.08, **changes})


def t2_point(**changes: Any) -> T2Point:
    return T2Point(**{"p_positive": 0.1, "b": 4, "sigma": 1, "t_norm": 1, "c": 1, **changes})


def t3_point(**changes: Any) -> T3Point:
    known = {"dimension": 200, "b": 4, "num_positive": 20, "num_negative": 200, "p_positive": 0.1, "epsilon": 0.1}
    return T3Point(**{**known, "sigma": 1, "k1": 1, "k2": 1, **changes})


def evaluated(point: Point, repetitions: int = 100_000) -> dict[str, Any]:
    """The row of a point that is one block."""
    sums = simulate_block(point, seed=0, block=0, repetitions=repetitions)
    return judge(point, repetitions=repetitions, sums=sums, confidence=CONFIDENCE)


def assert_same_distribution(ours: np.ndarray, explicit: np.ndarray) -> None:
    assert stats.ks_2samp(ours, explicit).pvalue > 1e-3


# The bounds


def test_t1_s_bound_is_the_known_one() -> None:
    # 2 delta^2 n+n-/(9 (n+ + n-)) = 2 * 0.0064 * 2500 / 9 = 3.5556 and 8 n delta^2 / (9 * 4) = 7.1111, twice.
    assert t1.claim(t1_point()).bound == pytest.approx(1 - 2 * math.exp(-32 / 9) - 4 * math.exp(-64 / 9), rel=1e-12)
    assert t1.claim(t1_point()).bound == pytest.approx(0.940, abs=5e-4)


def test_t1_s_bound_takes_each_class_and_each_scale() -> None:
    # n+ = 2000, n- = 200, sigma = 2, gap = 3: 2 * 0.25 / (9 * 4) * 400000 / 2200 = 2.52525, and per class
    # 8 * 2000 * 0.25 / 81 = 49.3827 and 4.93827.
    point = t1_point(mu1=2, sigma=2, num_unlabeled=2200, rho_unlabeled=10, delta=0.5)
    expected = 1 - 2 * math.exp(-2.525252525) - 2 * math.exp(-49.382716) - 2 * math.exp(-4.9382716)
    assert t1.claim(point).bound == pytest.approx(expected, rel=1e-7)


def test_t1_s_bound_is_vacuous_for_2000_and_200_pseudo_labels() -> None:
    claim = t1.claim(t1_point(q=0.6, num_unlabeled=2200, rho_unlabeled=10, delta=0.15))
    assert claim.bound < 0 and claim.vacuous


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        # 0.1 Phi(-1) + 0.9 Phi(1/2)
        ({"c": 1}, 0.1 * 0.158655254 + 0.9 * 0.691462461),
        # The same c / (|t| sigma).
        ({"c": 6, "t_norm": 2, "sigma": 3}, 0.1 * 0.158655254 + 0.9 * 0.691462461),
        # 0.1 Phi(3) + 0.9 Phi(-3/2)
        ({"c": -3}, 0.1 * 0.998650102 + 0.9 * 0.066807201),
        # 0.5 Phi(-2) + 0.5 Phi(2/10)
        ({"p_positive": 0.5, "b": 100, "c": 2}, 0.5 * 0.022750132 + 0.5 * 0.579259709),
    ],
)
def test_t2_s_error_equals_the_formula(changes: dict[str, float], error: float) -> None:
    assert t2.claim(t2_point(**changes)).exact == pytest.approx(error, rel=1e-7)


def test_t2_holds_for_c_above_0_and_needs_it() -> None:
    offsets = np.geomspace(1e-3, 1e3, 61)
    shapes = [{"p_positive": p, "b": b} for p in (0.001, 0.1, 0.5) for b in (3.001, 10, 1e4)]
    inside = [t2.claim(t2_point(c=c, **shape)) for c in offsets for shape in shapes]
    outside = [t2.claim(t2_point(c=-c, **shape)) for c in offsets for shape in shapes]
    assert all(claim.conditions_met and claim.exact >= 0.25 for claim in inside)
    assert not any(claim.conditions_met for claim in outside)
    assert min(claim.exact for claim in outside) == pytest.approx(0.001, abs=1e-5)


def test_t3_s_bounds_are_the_known_ones() -> None:
    # A = 3 - 5 * 0.1 = 2.5; 200 * 2.5^2 / (32 * 16) = 2.44141; 200 * 2.5 / 16 = 31.25; 20 * 200 * 0.01 / 8 = 5.
    claim = t3.claim(t3_point())
    assert claim.error_bound == pytest.approx(0.1 * math.exp(-31.25) + 0.9 * math.exp(-2.44140625), rel=1e-12)
    assert claim.error_bound == pytest.approx(0.0783, abs=5e-5)
    assert claim.bound == pytest.approx(1 - 2 * math.exp(-5) - 2 * math.exp(-50), rel=1e-12)


@pytest.mark.parametrize(
    ("epsilon", "missed"),
    [
        # (b-3)/(b+1) = 0.2. Above: A = 3 - 5 * 0.4 = 1, exp(-10 * 1 / 32); below: A = 2.25, exp(-10 * 2.25 / 16).
        (0.4, math.exp(-0.3125)),
        (0.15, math.exp(-1.40625)),
    ],
)
def test_t3_s_error_bound_changes_its_form_with_epsilon(epsilon: float, missed: float) -> None:
    margin = 3 - 5 * epsilon
    expected = 0.1 * missed + 0.9 * math.exp(-10 * margin**2 / 512)
    claim = t3.claim(t3_point(dimension=10, epsilon=epsilon))
    assert claim.error_bound == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("dimension", "vacuous"), [(10, True), (50, False)])
def test_t3_s_bound_is_vacuous_in_few_dimensions(dimension: int, vacuous: bool) -> None:
    # 2 exp(-20 d 0.01 / 8) is 1.56 for d = 10 and 0.57 for d = 50.
    assert t3.claim(t3_point(dimension=dimension)).vacuous is vacuous


# The shortcuts: as many draws as the model has, made one by one


def test_t1_s_class_means_are_distributed_as_those_of_explicit_samples() -> None:
    point = t1_point(mu1=1.5, sigma=0.7, p=0.8, q=0.6, num_unlabeled=24, rho_unlabeled=3)
    generator = np.random.default_rng(1)
    repetitions = 40_000

    def class_mean(count: int, share_of_mu1: float) -> np.ndarray:
        from_mu1 = generator.random((repetitions, count)) < share_of_mu1
        return generator.normal(np.where(from_mu1, 1.5, -1.0), 0.7).mean(axis=1)

    explicit = (class_mean(18, 0.8) + class_mean(6, 0.4)) / 2 - 0.25
    ours = t1.simulated_threshold_bias(point, repetitions, np.random.default_rng(2))
    assert ours.shape == (repetitions,)
    assert_same_distribution(ours, explicit)
    # D (mu1 - mu2) / 2 = 0.2 * 1.25
    assert ours.mean() == pytest.approx(0.25, abs=4 * ours.std() / math.sqrt(repetitions))


@pytest.mark.parametrize("c", [0.8, -0.8])
def test_t2_s_projections_err_as_often_as_explicit_vectors(c: float) -> None:
    point = t2_point(p_positive=0.3, b=5, sigma=1.5, t_norm=2, c=c)
    generator = np.random.default_rng(3)
    direction = generator.standard_normal(6)
    direction *= 2 / np.linalg.norm(direction)
    count = 400_000
    positive = generator.random(count) < 0.3
    samples = generator.standard_normal((count, 6)) * np.where(positive, 1.5, 1.5 * math.sqrt(5))[:, None]
    explicit = ((samples @ direction + c > 0) != positive).mean()
    ours = t2.simulate(point, count, np.random.default_rng(4)).hits / count
    assert ours == pytest.approx(explicit, abs=4 * math.sqrt(2 * 0.25 / count))
    assert ours == pytest.approx(t2.claim(point).exact, abs=4 * math.sqrt(0.25 / count))


def test_t3_s_errors_are_distributed_as_those_of_explicit_samples() -> None:
    point = t3_point(dimension=3, b=6, num_positive=4, num_negative=2, p_positive=0.2, sigma=1.3, k1=0.7, k2=5)
    generator = np.random.default_rng(5)
    repetitions = 40_000

    def feature(count: int, variance: float) -> np.ndarray:
        samples = generator.normal(0, math.sqrt(variance), (repetitions, count, 3))
        return 0.7 * (samples**2).sum(axis=2) + 5  # (repetitions, count)

    offset = (feature(4, 1.69).mean(axis=1) + feature(2, 6 * 1.69).mean(axis=1)) / 2
    square = (offset - 5) / 0.7
    explicit = 0.2 * stats.chi2.sf(square / 1.69, 3) + 0.8 * stats.chi2.cdf(square / (6 * 1.69), 3)
    ours = t3.classifier_errors(point, repetitions, np.random.default_rng(6))
    assert_same_distribution(ours, explicit)
    # The error itself, on ten fresh samples of each class a repetition: f says positive if Z < c.
    missed = (feature(10, 1.69) >= offset[:, None]).mean()
    false_alarms = (feature(10, 6 * 1.69) < offset[:, None]).mean()
    assert ours.mean() == pytest.approx(0.2 * missed + 0.8 * false_alarms, abs=0.004)


def test_the_check_of_distributions_notices_a_small_difference() -> None:
    generator = np.random.default_rng(7)
    with pytest.raises(AssertionError):
        assert_same_distribution(generator.normal(0, 1, 40_000), generator.normal(0, 1.05, 40_000))


# Seeds and blocks


def test_a_block_repeats_and_changes_with_seed_block_and_point() -> None:
    def drawn(point: T1Point, seed: int, block: int) -> float | None:
        return simulate_block(point, seed=seed, block=block, repetitions=50).total

    point = t1_point()
    assert drawn(point, 0, 0) == drawn(t1_point(), 0, 0)
    variants = [drawn(point, 0, 0), drawn(point, 1, 0), drawn(point, 0, 1), drawn(t1_point(delta=0.09), 0, 0)]
    assert len(set(variants)) == 4


@pytest.mark.parametrize(
    ("repetitions", "block", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (4, 4, [4])]
)
def test_blocks_hold_all_repetitions(repetitions: int, block: int, sizes: Sequence[int]) -> None:
    assert block_sizes(repetitions, block) == sizes


# Judgements


def test_the_interval_of_a_proportion_is_clopper_and_pearson_s() -> None:
    low, high = proportion_interval(7, 50, confidence=0.9)
    # By its definition: at the ends, as extreme a count has probability 0.05.
    assert stats.binom.sf(6, 50, low) == pytest.approx(0.05, rel=1e-9)
    assert stats.binom.cdf(7, 50, high) == pytest.approx(0.05, rel=1e-9)


def test_the_interval_of_a_sure_thing_has_one_open_end() -> None:
    assert proportion_interval(20, 20, confidence=0.9) == (pytest.approx(0.05 ** (1 / 20)), 1.0)
    assert proportion_interval(0, 20, confidence=0.9) == (0.0, pytest.approx(1 - 0.05 ** (1 / 20)))


@pytest.mark.parametrize(
    ("hits", "holds", "said"),
    [(1000, True, "holds"), (941, None, "undecided"), (900, False, "fails")],
)
def test_a_bound_is_judged_by_where_the_interval_lies(hits: int, holds: bool | None, said: str) -> None:
    # The bound is 0.9396; the 99 % interval is about +-0.02 wide there.
    row = judge(t1_point(), repetitions=1000, sums=BlockSums(hits=hits, total=0, total_squares=0), confidence=0.99)
    assert row["holds"] is holds and verdict(row) == said
    assert row["empirical"] == hits / 1000 and row["low"] < hits / 1000 <= row["high"]


def test_a_vacuous_bound_is_not_judged_to_hold() -> None:
    row = evaluated(t1_point(q=0.6, num_unlabeled=2200, rho_unlabeled=10, delta=0.15), repetitions=1000)
    assert (row["vacuous"], row["holds"], verdict(row)) == (True, None, "vacuous")
    assert row["empirical"] > 0.98


def test_draws_are_counted_as_samples_of_the_model() -> None:
    assert evaluated(t1_point(), 100)["represented_draws"] == 100 * 10_000
    assert evaluated(t2_point(), 100)["represented_draws"] == 100
    assert evaluated(t3_point(), 100)["represented_draws"] == 100 * 220


def test_mean_and_spread_come_from_the_sums() -> None:
    # Of 1, 2, 3 and 6: mean 3, variance (4 + 1 + 0 + 9) / 3; the 90 % quantile of the normal is 1.6449 at both sides.
    sums = BlockSums(hits=1, total=12, total_squares=50, largest=6)
    row = judge(t1_point(), repetitions=4, sums=sums, confidence=0.9)
    assert (row["mean"], row["largest"]) == (3, 6)
    assert row["std"] == pytest.approx(math.sqrt(14 / 3))
    assert row["mean_high"] - row["mean"] == pytest.approx(1.6448536 * math.sqrt(14 / 12), rel=1e-7)
    assert row["mean"] - row["mean_low"] == pytest.approx(row["mean_high"] - row["mean"])


def test_t1_s_known_check_holds() -> None:
    row = evaluated(t1_point())
    assert row["empirical"] == pytest.approx(1.0, abs=1e-4)
    assert row["mean"] == pytest.approx(0.4001, abs=3e-4)
    assert row["predicted_mean"] == pytest.approx(0.4)
    assert row["holds"] is True


def test_t3_s_known_check_holds() -> None:
    row = evaluated(t3_point())
    assert row["largest"] < row["error_bound"] == pytest.approx(0.0783, abs=5e-5)
    assert row["empirical"] == 1 and row["holds"] is True
    # c is near (200 + 800) / 2: a negative is called positive if chi-square(200) < 125. Over samples c varies a little.
    assert row["mean"] == pytest.approx(0.9 * stats.chi2.cdf(125, 200), rel=0.1)


def test_t2_fails_without_its_condition() -> None:
    row = evaluated(t2_point(c=-3))
    assert (row["conditions_met"], row["holds"], verdict(row)) == (False, False, "fails (c <= 0)")
    assert row["low"] < row["exact"] < row["high"] < 0.25


def test_statements_count_points_by_judgement_and_name_the_needed_condition() -> None:
    vacuous = t1_point(q=0.6, num_unlabeled=2200, rho_unlabeled=10, delta=0.15)
    points = [t1_point(), vacuous, t2_point(), t2_point(c=-3), t2_point(c=-30), t3_point(), t3_point(dimension=10)]
    said = statements([evaluated(point, 20_000) for point in points], confidence=CONFIDENCE)
    assert said[0] == "T1: the bound holds at 1 of 2 points, fails at 0, is vacuous (says nothing) at 1."
    assert "at 2 of 2 points" in said[3] and said[3].endswith("c = -30, p+ = 0.1: c > 0 is needed.")
    assert said[5] == "T3: the bound holds at 1 of 2 points, fails at 0, is vacuous (says nothing) at 1."
    assert [sentence[:2] for sentence in said] == ["T1", "T1", "T2", "T2", "T2", "T3", "T3"]


def test_statements_do_not_claim_what_no_row_shows() -> None:
    always_right = [evaluated(t2_point(p_positive=0.5, c=c), 20_000) for c in (-1, 1)]
    said = statements(always_right, confidence=CONFIDENCE)
    assert "T2 without its condition (c <= 0): no error below 1/4 at 1 point." in said
    assert not any("T1" in sentence or "needed" in sentence for sentence in said)
    wrong = judge(t1_point(), repetitions=100, sums=BlockSums(hits=5, total=90, total_squares=90), confidence=0.9)
    assert "holds at 0 of 1 point, fails at 1." in statements([wrong], confidence=0.9)[0]
    assert "has that value inside at 0" in statements([wrong], confidence=0.9)[1]


def test_statements_distinguish_undecided_points_with_and_without_a_miss() -> None:
    # The bound is 0.9396: inside the intervals of 941 in 1000, and of 20 in 20. The last point's is vacuous.
    vacuous = t1_point(num_unlabeled=100)
    rows = [
        judge(point, repetitions=n, sums=BlockSums(hits=hits, total=0, total_squares=0), confidence=0.99)
        for point, hits, n in ((t1_point(), 941, 1000), (t1_point(), 20, 20), (vacuous, 20, 20))
    ]
    assert statements(rows, confidence=0.99)[0] == (
        "T1: the bound holds at 0 of 3 points, fails at 0, is vacuous (says nothing) at 1, "
        "is too close to tell at 2 (without a miss at 1)."
    )
