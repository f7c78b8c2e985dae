"""Distribution alignment: pseudo-labels follow target class shares in the long run.

Berthelot et al. 2020 (ReMixMatch), section 3.1: q' = Normalize(q p(y)/p~(y)), with p~(y) the mean prediction for the
unlabeled images of the last 128 batches, and p(y) the shares of the labelled classes. CReST+ (Wei et al. 2021, section
3.3) raises those shares to a power t and normalises them; t falls over the generations from 1 to t_min.
"""

import torch
from torch import Tensor

from longtail.training.distributed import sum_over_ranks
from longtail.training.semi.fixmatch_base import FixMatch, TrainingContext, ViewOutputs
from longtail.training.step import Step


class DistributionAlignment(FixMatch):
    """The running mean is over all ranks and includes the current step's predictions."""

    target: Tensor
    recent: Tensor

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self.register_buffer("target", self.target_shares(), persistent=False)
        recent = torch.zeros(context.options.da_window, context.num_classes, device=context.rank.device)
        self.register_buffer("recent", recent)

    def target_shares(self) -> Tensor:
        """(C,) class shares that pseudo-labels should have."""
        return self.context.shares()

    def probabilities(self, weak: ViewOutputs, step: Step) -> Tensor:
        predicted = super().probabilities(weak, step)  # (n, C)
        sums = sum_over_ranks(predicted[step.unlabeled.local].sum(dim=0), self.context.rank)  # (C,)
        self.recent[step.number % len(self.recent)] = sums / len(step.unlabeled.indices)
        mean = self.recent.sum(dim=0) / min(step.number + 1, len(self.recent))  # (C,)
        return aligned(predicted, mean=mean, target=self.target)


class ProgressiveAlignment(DistributionAlignment):
    """CReST+'s: more pseudo-labels of rare classes in each generation."""

    def target_shares(self) -> Tensor:
        options = self.context.options
        return self.context.shares(
            power=alignment_power(self.context.generation, num_generations=options.rounds, t_min=options.crest_t_min)
        )


def aligned(predicted: Tensor, *, mean: Tensor, target: Tensor) -> Tensor:
    """Scale predictions (N, C) by target/mean per class (C,) and normalise."""
    # A class that is never predicted keeps predictions of 0.
    scaled = predicted * (target / mean.clamp(min=torch.finfo(mean.dtype).tiny))
    return scaled / scaled.sum(dim=1, keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny)


def alignment_power(generation: int, *, num_generations: int, t_min: float) -> float:
    """t_g = (1 - g/G) + (g/G) t_min (Wei et al. 2021, section 3.3), with generations g = 0..G."""
    progress = generation / max(1, num_generations - 1)
    return (1 - progress) + progress * t_min
