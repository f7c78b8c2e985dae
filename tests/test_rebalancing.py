"""Class weights and resampling: their values, when they begin, and how often a class is drawn."""

import numpy as np
import pytest
import torch

from longtail.training.rebalancing import class_weights, effective_number_weights, epoch_order

CIFAR_10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
# 99.9 % of chi-square values with 2 and with 9 degrees of freedom lie below.
CHI_SQUARE_2, CHI_SQUARE_9 = 13.82, 27.88


def weights_by_geometric_sums(counts: list[int]) -> np.ndarray:
    raw = np.array([1 / np.sum(0.9999 ** np.arange(n, dtype=np.float64)) for n in counts])
    return raw / raw.mean()


def test_effective_number_weights_of_two_classes_by_hand() -> None:
    # Effective numbers 1 and 1.5 at beta = 0.5: weights 1 and 2/3, times 6/5 to sum to 2.
    assert effective_number_weights([1, 2], beta=0.5).tolist() == pytest.approx([1.2, 0.8])


def test_effective_number_weights_agree_with_geometric_sums_and_sum_to_the_number_of_classes() -> None:
    weights = effective_number_weights(CIFAR_10_LT).numpy()
    assert np.allclose(weights, weights_by_geometric_sums(CIFAR_10_LT), rtol=1e-9)
    assert weights.sum() == pytest.approx(10, rel=1e-12)
    assert (np.diff(weights) > 0).all(), "the smaller the class, the larger its weight"


def test_classes_of_one_size_have_weight_one() -> None:
    assert effective_number_weights([7, 7, 7]).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("train_rule", "num_epochs", "first_weighted_epoch"),
    # Epochs count from 0, so 160 is the first after 160 finished ones.
    [
        ("DRW", 200, 160),
        ("DRW", 320, 256),
        ("DRW", 10, 8),
        ("Reweight", 200, 0),
        ("None", 9, 9),
        ("Resample", 9, 9),
        ("DRS", 9, 9),
        ("ClassBalanced", 9, 9),
        ("SquareRoot", 9, 9),
        ("ProgressivelyBalanced", 9, 9),
    ],  # fmt: skip
)
def test_reweighting_begins_in_its_epoch(train_rule: str, num_epochs: int, first_weighted_epoch: int) -> None:
    counts = [90, 9, 1]
    for epoch in range(num_epochs):
        weights = class_weights(train_rule, counts, epoch=epoch, num_epochs=num_epochs)
        assert weights.dtype == torch.float32
        expected = weights_by_geometric_sums(counts) if epoch >= first_weighted_epoch else np.ones(3)
        assert np.allclose(weights, expected, rtol=1e-5)


def labels_of(counts: list[int]) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def drawn_often(
    train_rule: str, counts: list[int], *, times: int, epoch: int = 0, num_epochs: int = 10
) -> torch.Tensor:
    labels, generator = labels_of(counts), torch.Generator().manual_seed(0)
    return torch.cat(
        [
            epoch_order(train_rule, labels, counts, epoch=epoch, num_epochs=num_epochs, generator=generator)
            for _ in range(times)
        ]
    )


def test_resampling_draws_classes_by_their_effective_number_weights() -> None:
    # Large enough that the weights are not simply inverse sizes: equal shares must not pass for the right ones.
    counts = [12_000, 3000, 500]
    drawn = drawn_often("Resample", counts, times=10)
    observed = np.bincount(labels_of(counts)[drawn], minlength=3)
    share = weights_by_geometric_sums(counts) * counts
    assert chi_square(observed, len(drawn) * share / share.sum()) < CHI_SQUARE_2
    assert chi_square(observed, np.full(3, len(drawn) / 3)) > CHI_SQUARE_2


SIZES = [900, 90, 10]


@pytest.mark.parametrize(
    ("train_rule", "epoch", "shares"),
    [
        ("ClassBalanced", 0, [1 / 3, 1 / 3, 1 / 3]),
        ("ClassBalanced", 9, [1 / 3, 1 / 3, 1 / 3]),
        # Roots 30, 9.487 and 3.162 of the sizes, over their sum.
        ("SquareRoot", 0, [0.70343, 0.22244, 0.07413]),
        ("ProgressivelyBalanced", 0, [0.9, 0.09, 0.01]),
        # Half of the way: 0.45 + 1/6, 0.045 + 1/6, 0.005 + 1/6.
        ("ProgressivelyBalanced", 5, [0.61667, 0.21167, 0.17167]),
        ("ProgressivelyBalanced", 9, [0.39, 0.309, 0.301]),
    ],
)
def test_a_rule_draws_classes_in_its_shares(train_rule: str, epoch: int, shares: list[float]) -> None:
    drawn = drawn_often(train_rule, SIZES, times=30, epoch=epoch)
    observed = np.bincount(labels_of(SIZES)[drawn], minlength=3)
    assert chi_square(observed, 30_000 * np.array(shares)) < CHI_SQUARE_2


def test_the_test_of_frequencies_tells_neighbouring_epochs_apart() -> None:
    drawn = drawn_often("ProgressivelyBalanced", SIZES, times=30, epoch=5)
    observed = np.bincount(labels_of(SIZES)[drawn], minlength=3)
    for epoch in (4, 6):
        shares = (1 - epoch / 10) * np.array(SIZES) / 1000 + epoch / 10 / 3
        assert chi_square(observed, 30_000 * shares) > CHI_SQUARE_2


@pytest.mark.parametrize(("num_epochs", "first_drawn_epoch"), [(200, 160), (320, 256), (10, 8)])
def test_deferred_resampling_begins_in_its_epoch(num_epochs: int, first_drawn_epoch: int) -> None:
    before = drawn_often("DRS", SIZES, times=1, epoch=first_drawn_epoch - 1, num_epochs=num_epochs)
    assert sorted(before.tolist()) == list(range(1000))
    drawn = drawn_often("DRS", SIZES, times=30, epoch=first_drawn_epoch, num_epochs=num_epochs)
    share = weights_by_geometric_sums(SIZES) * SIZES
    observed = np.bincount(labels_of(SIZES)[drawn], minlength=3)
    assert chi_square(observed, 30_000 * share / share.sum()) < CHI_SQUARE_2


@pytest.mark.parametrize("train_rule", ["Resample", "ClassBalanced", "SquareRoot", "ProgressivelyBalanced"])
def test_a_class_without_samples_is_not_drawn_and_does_not_disturb(train_rule: str) -> None:
    drawn = labels_of([30, 0, 10])[drawn_often(train_rule, [30, 0, 10], times=5, epoch=1)]
    assert set(drawn.tolist()) == {0, 2}


def test_resampling_draws_the_images_of_a_class_alike() -> None:
    counts = [30, 10]
    drawn = drawn_often("Resample", counts, times=200)
    tail = np.bincount(drawn[drawn >= 30] - 30, minlength=10)
    assert chi_square(tail, np.full(10, tail.sum() / 10)) < CHI_SQUARE_9


def test_resampling_keeps_the_length_of_an_epoch() -> None:
    assert len(drawn_often("Resample", [30, 10], times=1)) == 40


@pytest.mark.parametrize("train_rule", ["None", "Reweight", "DRW"])
def test_without_resampling_every_sample_comes_once(train_rule: str) -> None:
    order = drawn_often(train_rule, [30, 10], times=1).tolist()
    assert sorted(order) == list(range(40))
    assert order != list(range(40)), "and in an order of chance"


@pytest.mark.parametrize("train_rule", ["None", "Resample"])
def test_the_generator_alone_decides_the_order(train_rule: str) -> None:
    def order(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return epoch_order(
            train_rule, labels_of([30, 10]), [30, 10], epoch=0, num_epochs=10, generator=generator
        ).tolist()

    torch.manual_seed(1)
    first = order(5)
    torch.manual_seed(2)
    assert order(5) == first
    assert order(6) != first
