"""Losses against formulas written anew in float64, and their gradients against differences."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.conf.options.training import TrainOptions
from longtail.training.losses import (
    build_loss,
    cross_entropy,
    focal_loss,
    hard_targets,
    head_of,
    ldam_loss,
    ldam_margins,
    log_priors,
    logit_adjusted_loss,
    logit_scale_of,
    weighted_focal_loss,
)
from longtail.training.rebalancing import effective_number_weights

CPU = torch.device("cpu")


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits (12, 4) float64, some of them far from each other, and targets (12,)."""
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(4, (12,), generator=generator)


def target_probabilities(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits)
    return exponentials[np.arange(len(targets)), targets] / exponentials.sum(axis=1)


def test_cross_entropy_is_minus_the_logarithm_of_the_target_s_probability(batch: tuple[Tensor, Tensor]) -> None:
    logits, targets = batch
    expected = -np.log(target_probabilities(logits.numpy(), targets.numpy()))
    assert np.allclose(cross_entropy(logits, targets), expected, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_scales_cross_entropy_by_how_wrong_the_probability_is(
    batch: tuple[Tensor, Tensor], gamma: float
) -> None:
    logits, targets = batch
    p = target_probabilities(logits.numpy(), targets.numpy())
    assert np.allclose(focal_loss(logits, targets, gamma=gamma), (1 - p) ** gamma * -np.log(p), rtol=1e-10)


def test_focal_loss_at_gamma_0_is_cross_entropy(batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(focal_loss(*batch, gamma=0), cross_entropy(*batch))


def test_the_published_focal_loss_has_the_class_weight_inside_the_power() -> None:
    # Effective numbers of 500 and 10 images give the weights 0.0401 and 1.9599; the cross-entropies are
    # log(1 + e^-2) = 0.12693 and log(1 + e^0.5) = 0.97408.
    logits, targets = torch.tensor([[2.0, 0.0], [0.5, 0.0]], dtype=torch.float64), torch.tensor([0, 1])
    weights = effective_number_weights([500, 10])
    assert weights.tolist() == pytest.approx([0.040168, 1.959832], abs=1e-5)
    published = weighted_focal_loss(logits, targets, weights, gamma=1)
    weighted_ce = weights.numpy() * np.array([math.log1p(math.exp(-2)), math.log1p(math.exp(0.5))])
    assert published.tolist() == pytest.approx((1 - np.exp(-weighted_ce)) * weighted_ce, rel=1e-12)
    assert published.mean().item() == pytest.approx(0.81305, abs=5e-6)
    normalised = (weights * focal_loss(logits, targets, gamma=1)).sum() / weights.sum()
    assert normalised.item() == pytest.approx(0.59445, abs=5e-6)


def test_both_focal_losses_are_the_same_without_class_weights(batch: tuple[Tensor, Tensor]) -> None:
    without = weighted_focal_loss(*batch, torch.ones(12, dtype=torch.float64), gamma=2)
    assert torch.allclose(without, focal_loss(*batch, gamma=2), rtol=1e-12)


def test_margins_fall_with_the_fourth_root_of_the_class_size() -> None:
    # 16^(-1/4) = 1/2, 81^(-1/4) = 1/3, 1: the largest, of the smallest class, becomes 0.5.
    for counts in ([16, 81, 1], [160000, 810000, 10000]):
        assert ldam_margins(counts, max_margin=0.5).tolist() == pytest.approx([1 / 4, 1 / 6, 1 / 2], rel=1e-6)
    assert ldam_margins([7, 7], max_margin=0.5).tolist() == pytest.approx([0.5, 0.5])
    assert ldam_margins([16, 81, 1], max_margin=0.3).tolist() == pytest.approx([0.15, 0.1, 0.3], rel=1e-6)


def test_ldam_loss_of_two_classes_by_hand() -> None:
    cosines = torch.tensor([[0.1, 0.2], [0.1, 0.2]], dtype=torch.float64)
    losses = ldam_loss(30 * cosines, torch.tensor([0, 1]), margins=30 * ldam_margins([16, 1], max_margin=0.5))
    # Target 0: logit 3 less 30 * 0.25 is -4.5, against 6. Target 1: 6 less 30 * 0.5 is -9, against 3.
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(10.5)), math.log1p(math.exp(12))], rel=1e-6)


def test_ldam_loss_is_cross_entropy_after_the_target_s_logit_lost_its_margin(batch: tuple[Tensor, Tensor]) -> None:
    logits, targets = batch[0].numpy().copy(), batch[1].numpy()
    margins = np.array([0.5, 1.0, 4.0, 12.0])
    logits[np.arange(12), targets] -= margins[targets]
    expected = -np.log(target_probabilities(logits, targets))
    assert np.allclose(ldam_loss(*batch, margins=torch.from_numpy(margins)), expected, rtol=1e-8)
    assert np.allclose(ldam_loss(*batch, margins=torch.zeros(4)), cross_entropy(*batch), rtol=1e-8)


def test_ldam_loss_in_float32_keeps_what_little_the_others_have_left() -> None:
    # Of e^-20 beside 1 float32 keeps nothing; the margin of 15 makes it e^-5 beside 1.
    logits = torch.tensor([[20.0, 0.0], [0.0, 20.0]])
    losses = ldam_loss(logits, torch.tensor([0, 1]), margins=torch.tensor([15.0, 15.0]))
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-5))] * 2, rel=1e-5)


COUNTS = [100, 30, 5, 1]


def test_balanced_softmax_weights_each_exponential_by_the_size_of_its_class(batch: tuple[Tensor, Tensor]) -> None:
    logits, targets = batch[0].numpy(), batch[1].numpy()
    weighted = np.array(COUNTS) * np.exp(logits)
    expected = -np.log(weighted[np.arange(12), targets] / weighted.sum(axis=1))
    loss = build_loss(TrainOptions(loss_type="BalancedSoftmax"), COUNTS, CPU)
    assert np.allclose(loss(*batch), expected, rtol=1e-5)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_a_pairwise_margin_of_tau_times_the_log_ratio_of_the_priors(
    batch: tuple[Tensor, Tensor], tau: float
) -> None:
    logits, targets, prior = batch[0].numpy(), batch[1].numpy(), np.array(COUNTS) / 136
    expected = [
        np.log(1 + sum((prior[j] / prior[y]) ** tau * np.exp(z[j] - z[y]) for j in range(4) if j != y))
        for z, y in zip(logits, targets, strict=True)
    ]
    loss = build_loss(TrainOptions(loss_type="LogitAdjusted", tau=tau), COUNTS, CPU)
    assert np.allclose(loss(*batch), expected, rtol=1e-5, atol=1e-6)


def test_logit_adjustment_without_strength_is_cross_entropy(batch: tuple[Tensor, Tensor]) -> None:
    loss = build_loss(TrainOptions(loss_type="LogitAdjusted", tau=0), COUNTS, CPU)
    assert torch.equal(loss(*batch), cross_entropy(*batch))


def test_log_priors_are_the_logarithms_of_the_shares() -> None:
    assert log_priors([6, 3, 1]).tolist() == pytest.approx([math.log(0.6), math.log(0.3), math.log(0.1)])


LOSSES = {
    "cross entropy": cross_entropy,
    "focal 1": partial(focal_loss, gamma=1.0),
    "focal 2": partial(focal_loss, gamma=2.0),
    "focal 1/2": partial(focal_loss, gamma=0.5),
    "ldam": partial(ldam_loss, margins=30 * ldam_margins(COUNTS, max_margin=0.5)),
    "ldam scaled by 10": partial(ldam_loss, margins=10 * ldam_margins(COUNTS, max_margin=0.5)),
    "balanced softmax": partial(logit_adjusted_loss, adjustment=log_priors(COUNTS)),
    "logit adjusted 2": partial(logit_adjusted_loss, adjustment=2 * log_priors(COUNTS)),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_gradients_are_those_of_the_values(
    batch: tuple[Tensor, Tensor], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    logits, targets = batch
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.requires_grad_())


@pytest.fixture
def soft_targets() -> Tensor:
    """Probabilities (12, 4) float64: some certain, some without a class, most in between."""
    probabilities = torch.rand(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    probabilities[0], probabilities[1, 2] = torch.tensor([0.0, 0, 1, 0]), 0
    return probabilities / probabilities.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_loss_of_probabilities_is_the_mean_of_the_losses_of_the_classes(
    batch: tuple[Tensor, Tensor], soft_targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    logits, _ = batch
    of_class = torch.stack([loss(logits, torch.full((12,), class_id)) for class_id in range(4)], dim=1)
    assert torch.allclose(loss(logits, soft_targets), (soft_targets * of_class).sum(dim=1), rtol=1e-9)
    assert torch.autograd.gradcheck(lambda x: loss(x, soft_targets), logits.requires_grad_())


def test_the_soft_loss_of_two_classes_by_hand() -> None:
    # Log probabilities -log 4 and -log 4/3 of logits 0 and log 3: a quarter and three quarters.
    logits = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    targets = torch.tensor([[0.4, 0.6]], dtype=torch.float64)
    assert cross_entropy(logits, targets).item() == pytest.approx(0.4 * math.log(4) + 0.6 * math.log(4 / 3))
    focal = focal_loss(logits, targets, gamma=1)
    assert focal.item() == pytest.approx(0.4 * 0.75 * math.log(4) + 0.6 * 0.25 * math.log(4 / 3))


def test_the_hard_targets_class_of_targets_is_the_class_or_has_the_largest_probability() -> None:
    assert hard_targets(torch.tensor([2, 0])).tolist() == [2, 0]
    assert hard_targets(torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])).tolist() == [2, 0]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_loss_is_one_finite_value_per_sample(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    # Sure and right, sure and wrong, undecided.
    logits = torch.tensor([[200.0, 0, 0, 0], [200.0, 0, 0, 0], [0, 0, 0, 0]], requires_grad=True)
    losses = loss(logits, torch.tensor([0, 1, 2]))
    assert losses.shape == (3,)
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(logits.grad).all()
    assert losses[0] < 1e-3 < 100 < losses[1]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"loss_type": "CE"}, "cross entropy"),
        ({"loss_type": "Focal"}, "focal 1"),
        ({"loss_type": "FocalNormalised"}, "focal 1"),
        ({"loss_type": "Focal", "focal_gamma": 2}, "focal 2"),
        ({"loss_type": "LDAM"}, "ldam"),
        ({"loss_type": "LDAM", "ldam_scale": 10}, "ldam scaled by 10"),
        ({"loss_type": "BalancedSoftmax"}, "balanced softmax"),
        ({"loss_type": "BalancedSoftmax", "tau": 2}, "balanced softmax"),
        ({"loss_type": "LogitAdjusted"}, "balanced softmax"),
        ({"loss_type": "LogitAdjusted", "tau": 2}, "logit adjusted 2"),
    ],
)
def test_the_loss_of_an_option_is_the_one_it_names(
    batch: tuple[Tensor, Tensor], options: dict[str, str | float], name: str
) -> None:
    assert torch.equal(build_loss(TrainOptions(**options), COUNTS, CPU)(*batch), LOSSES[name](*batch))


def test_the_largest_margin_of_ldam_is_an_option(batch: tuple[Tensor, Tensor]) -> None:
    loss = build_loss(TrainOptions(loss_type="LDAM", ldam_max_margin=0.25), COUNTS, CPU)
    assert torch.equal(loss(*batch), ldam_loss(*batch, margins=30 * ldam_margins(COUNTS, max_margin=0.25)))


def test_only_ldam_has_the_normalised_head_whose_cosines_are_scaled_by_30_or_as_asked() -> None:
    linear = ("CE", "Focal", "FocalNormalised", "BalancedSoftmax", "LogitAdjusted")
    assert {loss: head_of(loss) for loss in (*linear, "LDAM")} == {**dict.fromkeys(linear, "linear"), "LDAM": "cosine"}
    scales = [logit_scale_of(head, TrainOptions()) for head in ("linear", "scaled", "cosine")]
    assert scales == [1, 1, 30]
    assert logit_scale_of("cosine", TrainOptions(ldam_scale=10)) == 10
