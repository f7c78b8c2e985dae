"""DARP: pseudo-labels refined to the class sizes of the unlabeled images (Kim et al. 2020).

The refined labels x (M, C) of predictions y (M, C) solve the convex problem (eq. 2)

    min sum_m w_m KL(x_m || y_m)   with   sum_k x_mk = 1,   sum_m x_mk = M_k,   w_m = 1/H(y_m)

so the more certain a prediction, the less it changes. With a multiplier b_k per class they are

    x_mk = y_mk e^(b_k H(y_m)) / sum_j y_mj e^(b_j H(y_m))

and b is found by coordinate ascent (algorithm 1): rows are normalised, then each multiplier is set to the root of
sum_m x_mk = M_k. Before that, only the ceil(delta M_k) largest entries of each class are kept; the rest is noise.
"""

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.options.fixmatch import ESTIMATED
from longtail.streaming.class_shares import estimate_class_shares
from longtail.training.semi.fixmatch_base import FixMatch, TrainingContext, ViewOutputs
from longtail.training.step import Step

NEWTON_STEPS = 8
LARGEST_MULTIPLIER = 30.0
"""A class whose predictions are all certain has no root: no multiplier changes them."""


class DistributionAligningRefinery(FixMatch):
    """Keep every unlabeled image's latest prediction, and solve for the multipliers every --darp_every steps.

    A step's pseudo-labels are its predictions refined by these multipliers, once --darp_warmup of the training is done.
    M_k follows --unlabeled_shares, by default the shares of the labelled images. `estimated` shares are those that
    explain the predicted shares when refining begins, given the confusion matrix on held-out images at that time; they
    are kept from then on.
    """

    sizes: Tensor
    predictions: Tensor
    multipliers: Tensor
    smallest_kept: Tensor

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        classes, device = context.num_classes, context.rank.device
        given = context.options.unlabeled_shares
        self.is_estimated = given == ESTIMATED
        if self.is_estimated and context.held_out_confusion is None:
            raise UserError("--unlabeled_shares estimated: no image of the set is held out, raise --val_fraction")
        if isinstance(given, tuple) and len(given) != classes:
            raise UserError(f"--unlabeled_shares has {len(given)} shares, the set has {classes} classes")
        shares = torch.tensor(given, device=device) if isinstance(given, tuple) else context.shares()
        sizes = context.num_unlabeled * (shares / shares.sum()).double()
        self.register_buffer("sizes", sizes, persistent=self.is_estimated)
        self.register_buffer("predictions", torch.full((context.num_unlabeled, classes), 1 / classes, device=device))
        self.register_buffer("multipliers", torch.zeros(classes, dtype=torch.float64, device=device))
        self.register_buffer("smallest_kept", torch.zeros(classes, dtype=torch.float64, device=device))

    def probabilities(self, weak: ViewOutputs, step: Step) -> Tensor:
        predicted = super().probabilities(weak, step)  # (n, C)
        options = self.context.options
        self._remember(
            step.unlabeled.indices - self.context.num_labelled, step.unlabeled.gather(predicted, self.context.rank)
        )
        first = round(options.darp_warmup * step.num_steps)
        if step.number < first:
            return predicted
        if step.number % options.darp_every == 0:
            if self.is_estimated and step.number - first < options.darp_every:
                self.sizes.copy_(self._estimated_sizes())
            everything = self.predictions.double()
            self.smallest_kept.copy_(smallest_kept(everything, self.sizes, delta=options.darp_delta))
            self.multipliers.copy_(
                multipliers(without_noise(everything, self.smallest_kept), self.sizes, num_rounds=options.darp_rounds)
            )
        return refined(without_noise(predicted.double(), self.smallest_kept), self.multipliers).float()

    def _estimated_sizes(self) -> Tensor:
        """(C,) from the predicted classes of the images seen so far, and the confusion matrix; as before if these
        classes are predicted of no held-out image."""
        assert self.context.held_out_confusion is not None
        classes = self.context.num_classes
        is_seen = self.predictions.amax(dim=1) > self.predictions.amin(dim=1)  # (M,)
        predicted = torch.bincount(self.predictions[is_seen].argmax(dim=1), minlength=classes)  # (C,)
        cells = self.context.held_out_confusion()
        counts, indices = np.array(cells["count"], float), (cells["target"], cells["predicted"])
        confusion = csr_array((counts, indices), shape=(classes, classes))
        shares = estimate_class_shares(predicted.cpu().double().numpy(), confusion)
        if shares is None:
            return self.sizes
        return self.context.num_unlabeled * torch.from_numpy(shares).to(self.sizes.device)

    def _remember(self, indices: Tensor, predicted: Tensor) -> None:
        """Store predictions (k, C) of the images at indices (k,); the mean if an index comes twice."""
        times = (indices[:, None] == indices).sum(dim=1, keepdim=True)  # (k, 1)
        self.predictions.index_fill_(0, indices, 0)
        self.predictions.index_add_(0, indices, predicted / times)


def smallest_kept(predicted: Tensor, sizes: Tensor, *, delta: float) -> Tensor:
    """(C,) ceil(delta M_k)-th largest entry of each class in predictions (M, C); sizes (C,): M_k."""
    ranks = (delta * sizes).ceil().long().clamp(min=1, max=len(predicted)) - 1  # (C,)
    return predicted.sort(dim=0, descending=True).values.gather(0, ranks[None])[0]


def without_noise(predicted: Tensor, smallest: Tensor) -> Tensor:
    """Set predictions (N, C) below the smallest kept of their class (C,) to 0 and normalise; empty rows stay."""
    kept = torch.where(predicted >= smallest, predicted, 0)
    total = kept.sum(dim=1, keepdim=True)  # (N, 1)
    return torch.where(total > 0, kept / total.clamp(min=torch.finfo(kept.dtype).tiny), predicted)


def entropy(predicted: Tensor) -> Tensor:
    """(N, 1) entropy of each row of (N, C) probabilities, in nats."""
    return -torch.xlogy(predicted, predicted).sum(dim=1, keepdim=True)


def refined(predicted: Tensor, multipliers: Tensor) -> Tensor:
    """(N, C) refined labels x of predictions y (N, C) and multipliers b (C,)."""
    return (predicted.log() + multipliers * entropy(predicted)).softmax(dim=1)


def multipliers(predicted: Tensor, sizes: Tensor, *, num_rounds: int) -> Tensor:
    """(C,) multipliers b for predictions (M, C), float64, and class sizes (C,) that sum to M, by num_rounds of ascent.

    Within a round the rows are normalised, then each b_k is set to the root of log sum_m a_m y_mk e^(b_k H_m) = log M_k
    by Newton's method: the left side is convex and increasing.
    """
    b, h = torch.zeros_like(sizes), entropy(predicted)  # (C,), (M, 1)
    log_y = predicted.log()  # (M, C)
    log_sizes = sizes.clamp(min=torch.finfo(sizes.dtype).tiny).log()  # (C,)
    for _ in range(num_rounds):
        log_a = -(log_y + b * h).logsumexp(dim=1, keepdim=True)  # (M, 1)
        for _ in range(NEWTON_STEPS):
            terms = log_a + log_y + b * h  # (M, C)
            value = terms.logsumexp(dim=0)  # (C,)
            slope = ((terms - value).exp() * h).sum(dim=0)  # (C,)
            step = (log_sizes - value) / slope.clamp(min=1e-6)
            b = torch.where(value.isfinite(), (b + step).clamp(-LARGEST_MULTIPLIER, LARGEST_MULTIPLIER), b)
    return b
