"""Statistics of trials, with expected values computed by hand."""

import math
from typing import Any

import numpy as np
import pytest

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.arms import Arm, arms_of, published_order
from longtail.spark_jobs.studies.comparisons import compare, mean_interval, p_value
from longtail.spark_jobs.studies.power import detectable_difference, power_statements

EXPERIMENT = Experiment.model_validate(
    {
        "title": "t",
        "seeds": [0, 1],
        "axes": {"rule": {"CE": {}, "DRW": {"train_rule": "DRW"}}, "D_U": {"none": {}, "U": {"imb_factor_unlabel": 1}}},
        "published": [
            {"at": {"rule": "CE", "D_U": "none"}, "error": 30},
            {"at": {"rule": "CE", "D_U": "U"}, "error": 20},
            {"at": {"rule": "DRW", "D_U": "none"}, "error": 25},
        ],
    }
)


def row(rule: str, unlabeled: str, seed: int, accuracy: float | None, **more: Any) -> dict[str, Any]:
    return {"levels": {"rule": rule, "D_U": unlabeled}, "seed": seed, "accuracy": accuracy, **more}


ROWS = [
    row("CE", "none", 0, 0.5), row("CE", "none", 1, 0.7), row("CE", "U", 0, 0.6), row("CE", "U", 1, 0.9),
    row("DRW", "none", 0, 0.4), row("DRW", "none", 1, 0.4), row("DRW", "U", 0, 0.5),
]  # fmt: skip


RULES = ("CE", "DRW")


def _with_settings(number: int) -> Experiment:
    rhos = {str(i): {"imb_factor": 1 / (2 + i)} for i in range(number)}
    return Experiment.model_validate(
        {"title": "t", "seeds": [0, 1, 2], "axes": {"rule": {"CE": {}, "DRW": {"train_rule": "DRW"}}, "rho": rhos}}
    )


def _setting_row(rule: str, setting: int, seed: int, accuracy: float) -> dict[str, Any]:
    return {"levels": {"rule": rule, "rho": str(setting)}, "seed": seed, "accuracy": accuracy}


def test_an_arm_is_the_trials_of_a_combination_in_the_order_of_the_experiment():
    found = arms_of(EXPERIMENT, list(reversed(ROWS)))
    assert [(arm.name, len(arm.rows)) for arm in found] == [
        ("rule CE, D_U none", 2), ("rule CE, D_U U", 2), ("rule DRW, D_U none", 2), ("rule DRW, D_U U", 1),
    ]  # fmt: skip
    assert len(arms_of(EXPERIMENT, ROWS[:3])) == 2


def test_mean_and_deviation_are_over_the_seeds():
    first, *_, last = arms_of(EXPERIMENT, ROWS)
    assert first.mean("accuracy") == pytest.approx(0.6)
    assert first.deviation("accuracy") == pytest.approx(math.sqrt(0.02))  # 0.1^2 + 0.1^2 over 2 - 1
    assert last.mean("accuracy") == 0.5 and last.deviation("accuracy") is None


def test_a_score_that_no_trial_has_is_no_number():
    arm = Arm({}, [row("CE", "none", 0, None)])
    assert arm.mean("accuracy") is None and arm.deviation("accuracy") is None


def test_levels_are_compared_seed_by_seed_and_setting_by_setting():
    found = compare(EXPERIMENT, ROWS, axis="D_U", level="U", score="accuracy")
    assert found is not None
    # CE: 0.6 - 0.5 and 0.9 - 0.7; DRW: 0.5 - 0.4, whose second seed has no partner.
    assert found.num_pairs == 3 and found.num_seeds == 2
    assert found.mean == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert found.by_setting == {("CE",): pytest.approx(0.15), ("DRW",): pytest.approx(0.1)}
    assert found.low is not None and 0.099 < found.low < found.mean < found.high < 0.201
    # Pairs: t = mean / (deviation / sqrt 3) = 0.1333 / (0.0577 / 1.732) = 4; of 2 degrees p = 1 - t / sqrt(2 + t^2).
    assert p_value([0.1, 0.2, 0.1]) == pytest.approx(1 - 4 / math.sqrt(18))
    # Seeds: 0.1 and 0.2, t = 0.15 / (0.0707 / 1.414) = 3; of 1 degree p = 1 - 2 atan(t) / pi. The larger one counts.
    assert found.p_value == pytest.approx(1 - 2 * math.atan(3) / math.pi)
    # All three differences are above 0, but three prove little.
    assert found.low > 0 and not found.is_supported


def test_equal_values_have_p_zero_unless_they_are_zero():
    assert p_value([0.1, 0.1]) == 0 and p_value([0.0, 0.0]) == 1


def test_one_seed_supports_nothing_however_many_its_pairs_are():
    experiment = _with_settings(6)
    rows = [
        *(_setting_row("CE", i, 0, 0.5) for i in range(6)),
        *(_setting_row("DRW", i, 0, 0.6 + 0.001 * i) for i in range(6)),
    ]
    found = compare(experiment, rows, axis="rule", level="DRW", score="accuracy")
    assert found is not None and found.num_pairs == 6 and found.low is not None
    assert found.p_value is None and not found.is_supported


def test_an_effect_of_a_seed_on_all_settings_does_not_count_several_times():
    """A good pre-training helps in every setting: six pairs per seed, but only three independent draws."""
    generator, claims = np.random.default_rng(11), 0
    experiment = _with_settings(6)
    for _ in range(200):
        luck, noise = generator.normal(0, 0.05, size=3), generator.normal(0, 0.01, size=(2, 6, 3))
        rows = [
            _setting_row(rule, i, seed, luck[seed] * (rule == "DRW") + noise[j, i, seed])
            for j, rule in enumerate(RULES)
            for i in range(6)
            for seed in range(3)
        ]
        found = compare(experiment, rows, axis="rule", level="DRW", score="accuracy")
        assert found is not None
        claims += found.is_supported
    # As above. Over the pairs alone it would be 110.
    assert claims < 22


def test_levels_without_a_pair_are_not_compared():
    assert compare(EXPERIMENT, ROWS[:2], axis="rule", level="DRW", score="accuracy") is None
    other_seed = [row("CE", "none", 0, 0.5), row("DRW", "none", 1, 0.6)]
    assert compare(EXPERIMENT, other_seed, axis="rule", level="DRW", score="accuracy") is None


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.2], [0.1, 0.1, 0.1]])
def test_too_few_or_equal_pairs_have_no_interval(differences: list[float]):
    assert mean_interval(differences) == (None, None)


def test_the_interval_covers_the_mean_as_often_as_its_confidence_promises():
    draws = np.random.default_rng(5).normal(0.03, 0.05, size=(150, 20))
    covered = sum(low <= 0.03 <= high for low, high in map(mean_interval, draws.tolist()))
    # 95 % of 150 are 142.5; a bootstrap of 20 values covers a little less. Below 131 is a chance of 1 in 10,000.
    assert 131 <= covered <= 150


def test_the_difference_that_seeds_show_is_found_four_times_in_five():
    generator = np.random.default_rng(3)
    for num_seeds in (3, 5):
        smallest = detectable_difference(0.02, num_seeds)
        assert smallest is not None
        draws = generator.normal(smallest, 0.02, size=(500, num_seeds))
        found = sum(p_value(list(differences)) < 0.05 for differences in draws.tolist())
        assert 370 <= found <= 430  # 400 expected, deviation 9
    assert detectable_difference(0.02, 1) is None


def test_without_trials_the_power_is_that_of_the_assumed_deviation():
    assumed = EXPERIMENT.model_copy(update={"assumed_deviation": 0.5})
    (found,) = power_statements(assumed, [], num_seeds=3, score="accuracy")
    # 3.26 deviations of three seeds, 1.43 of six.
    assert found.startswith("3 seeds show, 80% of the time, differences of 1.6 points or more (if they vary by 0.5 ")
    assert found.endswith("6 seeds would show 0.7.")
    (unknown,) = power_statements(EXPERIMENT, [], num_seeds=5, score="accuracy")
    assert "a difference of 1.7 times its standard deviation between seeds, which is unknown" in unknown


def test_equal_levels_are_found_to_differ_in_one_of_twenty_cases():
    generator, claims = np.random.default_rng(7), 0
    for _ in range(200):
        noise = generator.normal(0, 0.05, size=(2, 3))
        rows = [row(rule, "none", seed, noise[i, seed]) for i, rule in enumerate(("CE", "DRW")) for seed in range(3)]
        found = compare(EXPERIMENT, rows, axis="rule", level="DRW", score="accuracy")
        assert found is not None
        claims += found.is_supported
    # 5 % of 200 are 10; 22 and more are a chance of 1 in 2,000. By the bootstrap alone it would be some 54.
    assert claims < 22


def test_the_share_of_confusions_is_of_the_true_class_over_all_seeds():
    names = {"class_names": ["a", "b", "c"]}
    one = [{"target": 0, "predicted": 0, "count": 3}, {"target": 0, "predicted": 1, "count": 1}]
    two = [{"target": 0, "predicted": 1, "count": 4}, {"target": 1, "predicted": 1, "count": 2}]
    found = Arm({}, [{**names, "confusion": one}, {**names, "confusion": two}]).confusion_shares(np.arange(3))
    np.testing.assert_allclose(found[:2], [[3 / 8, 5 / 8, 0], [0, 1, 0]])
    assert np.isnan(found[2]).all()  # no image of class c
    banded = Arm({}, [{**names, "confusion": one}, {**names, "confusion": two}]).confusion_shares(np.array([0, 1, 0]))
    np.testing.assert_allclose(banded, [[3 / 8, 5 / 8], [0, 1]])


def test_the_mean_of_a_class_leaves_out_seeds_without_it():
    arm = Arm({}, [{"class_accuracy": [0.2, None]}, {"class_accuracy": [0.4, None]}])
    assert arm.class_means("class_accuracy") == [pytest.approx(0.3), None]
    assert arm.class_deviations("class_accuracy") == [pytest.approx(math.sqrt(0.02)), None]  # 0.1^2 + 0.1^2 over 2 - 1


def test_the_order_of_arms_is_compared_with_the_papers():
    # Errors 30, 20, 25: U before DRW before CE. Accuracies 0.6, 0.75, 0.4: U before CE before DRW.
    assert published_order(EXPERIMENT, arms_of(EXPERIMENT, ROWS)) == (2, 3)
