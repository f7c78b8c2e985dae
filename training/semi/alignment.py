"""Distribution alignment: pseudo-labels in the long run of the classes in their target shares.

Berthelot et al. 2020 (ReMixMatch), section 3.1: q' = Normalize(q p(y)/p~(y)), with p~(y) the mean prediction for the
unlabeled images of the last 128 batches, and p(y) the shares of the labelled classes. CReST+ (Wei et al. 2021, section
3.3) has in their place those shares to a power t, normalised, which falls over the generations from 1 to t_min.
"""

import torch
from torch import Tensor

from longtail.training.distributed import sum_over_ranks
from longtail.training.semi.method import Answers, FixMatch, Setting
from longtail.training.step import Step


class DistributionAlignment(FixMatch):
    """The running mean is over all ranks, and has the step's own predictions in it."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.register_buffer("target", self.target_shares(), persistent=False)
        recent = torch.zeros(setting.options.da_window, setting.num_classes, device=setting.rank.device)
        self.register_buffer("recent", recent)

    def target_shares(self) -> Tensor:
        """(C,) of which pseudo-labels are to be."""
        return self.setting.shares()

    def probabilities(self, weak: Answers, step: Step) -> Tensor:
        predicted = super().probabilities(weak, step)  # (n, C)
        assert step.unlabeled is not None
        of_step = sum_over_ranks(predicted[step.unlabeled.mine].sum(dim=0), self.setting.rank)  # (C,)
        self.recent[step.number % len(self.recent)] = of_step / len(step.unlabeled.places)
        mean = self.recent.sum(dim=0) / min(step.number + 1, len(self.recent))  # (C,)
        return aligned(predicted, mean=mean, target=self.target)


class ProgressiveAlignment(DistributionAlignment):
    """CReST+'s: more of the rare classes in each generation."""

    def target_shares(self) -> Tensor:
        options = self.setting.options
        return self.setting.shares(
            power=alignment_power(self.setting.generation, num_generations=options.rounds, t_min=options.crest_t_min)
        )


def aligned(predicted: Tensor, *, mean: Tensor, target: Tensor) -> Tensor:
    """(N, C) predictions times target/mean of their class (C,), normalised."""
    # A class that is never predicted is not divided by: its predictions are 0, and stay so.
    scaled = predicted * (target / mean.clamp(min=torch.finfo(mean.dtype).tiny))
    return scaled / scaled.sum(dim=1, keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny)


def alignment_power(generation: int, *, num_generations: int, t_min: float) -> float:
    """t_g = (1 - g/G) + (g/G) t_min (Wei et al. 2021, section 3.3), with generations g = 0..G."""
    progress = generation / max(1, num_generations - 1)
    return (1 - progress) + progress * t_min
