"""Losses against formulas written anew in float64, and their gradients against differences."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from training.losses import build_loss, cross_entropy, focal_loss, head_of, ldam_loss, ldam_margins, logit_scale_of

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


def test_focal_loss_has_gamma_1_unless_said_otherwise(batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(focal_loss(*batch), focal_loss(*batch, gamma=1.0))
    assert not torch.equal(focal_loss(*batch), focal_loss(*batch, gamma=2.0))


def test_margins_fall_with_the_fourth_root_of_the_class_size() -> None:
    # 16^(-1/4) = 1/2, 81^(-1/4) = 1/3, 1: the largest, of the smallest class, becomes 0.5.
    assert ldam_margins([16, 81, 1]).tolist() == pytest.approx([1 / 4, 1 / 6, 1 / 2], rel=1e-6)
    assert ldam_margins([160000, 810000, 10000]).tolist() == pytest.approx([1 / 4, 1 / 6, 1 / 2], rel=1e-6)
    assert ldam_margins([7, 7]).tolist() == pytest.approx([0.5, 0.5])


def test_ldam_loss_of_two_classes_by_hand() -> None:
    cosines = torch.tensor([[0.1, 0.2], [0.1, 0.2]], dtype=torch.float64)
    losses = ldam_loss(30 * cosines, torch.tensor([0, 1]), margins=ldam_margins([16, 1]))
    # Target 0: logit 3 less 30 * 0.25 is -4.5, against 6. Target 1: 6 less 30 * 0.5 is -9, against 3.
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(10.5)), math.log1p(math.exp(12))], rel=1e-6)


def test_ldam_loss_without_margins_is_cross_entropy(batch: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(ldam_loss(*batch, margins=torch.zeros(4)), cross_entropy(*batch))


LOSSES = {
    "cross entropy": cross_entropy,
    "focal": focal_loss,
    "focal 2": partial(focal_loss, gamma=2.0),
    "ldam": partial(ldam_loss, margins=ldam_margins([100, 30, 5, 1])),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_gradients_are_those_of_the_values(
    batch: tuple[Tensor, Tensor], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    logits, targets = batch
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_loss_is_one_value_a_sample_and_stays_finite(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    # Sure and right, sure and wrong, undecided.
    logits = torch.tensor([[200.0, 0, 0, 0], [200.0, 0, 0, 0], [0, 0, 0, 0]], requires_grad=True)
    losses = loss(logits, torch.tensor([0, 1, 2]))
    assert losses.shape == (3,)
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(logits.grad).all()
    assert losses[0] < 1e-3 < 100 < losses[1]


def test_the_loss_of_an_option_is_the_one_it_names(batch: tuple[Tensor, Tensor]) -> None:
    counts = [100, 30, 5, 1]
    assert torch.equal(build_loss("CE", counts, CPU)(*batch), LOSSES["cross entropy"](*batch))
    assert torch.equal(build_loss("Focal", counts, CPU)(*batch), LOSSES["focal"](*batch))
    assert torch.equal(build_loss("LDAM", counts, CPU)(*batch), LOSSES["ldam"](*batch))


def test_only_ldam_has_the_normalised_head_whose_cosines_are_scaled_by_30() -> None:
    assert {loss: head_of(loss) for loss in ("CE", "Focal", "LDAM")} == {
        "CE": "linear", "Focal": "linear", "LDAM": "cosine",
    }  # fmt: skip
    assert (logit_scale_of("linear"), logit_scale_of("cosine")) == (1, 30)
