"""The learning rate: the published recipe at 200 epochs, and the same shape at any other number."""

import math

import pytest

from longtail.training.schedule import learning_rate


def rates(num_epochs: int, base: float = 0.1) -> list[float]:
    return [learning_rate("steps", base, epoch=epoch, num_epochs=num_epochs) for epoch in range(num_epochs)]


def test_200_epochs_have_the_published_rates() -> None:
    warmup = [0.02, 0.04, 0.06, 0.08, 0.1]
    assert rates(200) == pytest.approx([*warmup, *[0.1] * 155, *[0.001] * 20, *[0.00001] * 20], rel=1e-12)


def test_400_epochs_have_the_published_rates_twice_as_long() -> None:
    warmup = [0.01 * step for step in range(1, 11)]
    assert rates(400) == pytest.approx([*warmup, *[0.1] * 310, *[0.001] * 40, *[0.00001] * 40], rel=1e-12)


def test_40_epochs_have_one_of_warm_up() -> None:
    assert rates(40) == pytest.approx([*[0.1] * 32, *[0.001] * 4, *[0.00001] * 4], rel=1e-12)


@pytest.mark.parametrize("num_epochs", range(1, 30))
def test_a_short_training_learns_from_the_first_epoch_and_never_warms_up_again(num_epochs: int) -> None:
    values = rates(num_epochs)
    top = values.index(max(values))
    assert values[0] > 0 and max(values) == pytest.approx(0.1)
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_rates_are_in_proportion_to_the_first_one() -> None:
    assert rates(200, base=0.4) == pytest.approx([4 * rate for rate in rates(200)], rel=1e-12)


def test_seven_sixteenths_of_a_cosine_fall_slowly_and_a_constant_rate_never() -> None:
    rates = [learning_rate("cosine_7_16", 0.03, epoch=epoch, num_epochs=7) for epoch in range(7)]
    # 7/16 of half a turn in seven steps of 180/16 degrees; cos 22.5 = sqrt(2 + sqrt 2)/2 and cos 45 = sqrt(2)/2.
    assert rates[0] == pytest.approx(0.03)
    assert rates[2] == pytest.approx(0.03 * (2 + 2**0.5) ** 0.5 / 2)
    assert rates[4] == pytest.approx(0.03 * 2**0.5 / 2)
    assert {learning_rate("constant", 0.03, epoch=epoch, num_epochs=7) for epoch in range(7)} == {0.03}


def test_only_seven_sixteenths_of_a_cosine_fall_within_an_epoch() -> None:
    def rate(lr_schedule: str, share: float) -> float:
        return learning_rate(lr_schedule, 0.03, epoch=3, share=share, num_epochs=7)

    # The middle of the training: half of 7/16 of 180 degrees.
    assert rate("cosine_7_16", 0.5) == pytest.approx(0.03 * math.cos(math.radians(180 * 7 / 32)))
    for lr_schedule in ("steps", "cosine", "constant"):
        assert rate(lr_schedule, 0.0) == rate(lr_schedule, 0.99)


def test_a_cosine_falls_from_the_base_through_its_half_in_the_middle() -> None:
    rates = [learning_rate("cosine", 0.2, epoch=epoch, num_epochs=12) for epoch in range(12)]
    # cos 0, 30, 60, 90, 120, 150 degrees and so on: (1 + cos) / 2.
    half_root = 3**0.5 / 2
    cosines = {0: 1, 2: half_root, 4: 0.5, 6: 0, 8: -0.5, 10: -half_root}
    for epoch, cosine in cosines.items():
        assert rates[epoch] == pytest.approx(0.2 * (1 + cosine) / 2)
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0
