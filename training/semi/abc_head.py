"""ABC: an auxiliary balanced classifier besides FixMatch's, on the same features (Lee et al. 2021).

The network keeps the balanced head, so that its checkpoint is that of an ordinary network; FixMatch's own head is
needed by the training only.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from longtail.conf.vocabulary import NO_CLASS
from longtail.models.heads import HEADS
from longtail.training.losses import cross_entropy
from longtail.training.semi.fixmatch_base import FixMatch, TrainingContext, ViewOutputs
from longtail.training.semi.views import WeakAndStrong
from longtail.training.step import Step


class AuxiliaryBalancedClassifier(FixMatch):
    """L_cls + L_con (Lee et al. 2021, eq. 1 to 5) of the balanced head, in addition to FixMatch's losses."""

    keep: Tensor

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self.backbone_head = HEADS[context.head](context.num_features, context.num_classes).to(context.rank.device)
        counts = torch.tensor(context.labelled_counts, dtype=torch.float64)
        # N_L / N_y, with N_L the smallest class. A class without labelled images is never left out.
        keep = (counts[counts > 0].min() / counts.clamp(min=1)).clamp(max=1).float()
        self.register_buffer("keep", keep.to(context.rank.device), persistent=False)

    def backbone_logits(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.backbone_head(features)

    def further_losses(self, views: ViewOutputs, step: Step) -> Tensor:
        assert isinstance(step.choices, WeakAndStrong)
        weak, *strong = views.logits  # (n, C) each, of the balanced head
        return balanced_losses(
            weak,
            strong,
            step.targets,
            keep=self.keep,
            uniform=step.choices.uniform,
            thresholds=self.context.thresholds,
            progress=step.number / step.num_steps,
        )


def balanced_losses(
    weak: Tensor,
    strong: Sequence[Tensor],
    targets: Tensor,
    *,
    keep: Tensor,
    uniform: Tensor,
    thresholds: Tensor,
    progress: float,
) -> Tensor:
    """(n,) losses of the balanced head, from its logits (n, C) of each view; targets (n,), NO_CLASS for unlabeled.

    A labelled image of class y: its cross-entropy, masked by a draw from Bernoulli(N_L/N_y). An unlabeled image whose
    weak view is confidently predicted as class y, with probabilities q: the cross-entropies of its strong views to q,
    masked by a draw from a Bernoulli whose parameter falls over the training from 1 to N_L/N_y.

    keep: (C,) N_L/N_y; thresholds: (C,); uniform: (n,) in [0, 1); a draw is 1 if it is below the parameter
    progress: finished share of the training
    """
    labelled = cross_entropy(weak, targets.clamp(min=0)) * (uniform < keep[targets.clamp(min=0)])
    q = weak.detach().softmax(dim=1)  # (n, C)
    confidence, predicted = q.max(dim=1)  # (n,), (n,)
    counts = (uniform < 1 - progress * (1 - keep[predicted])) & (confidence >= thresholds[predicted])
    unlabeled = torch.stack([cross_entropy(logits, q) for logits in strong]).sum(dim=0) * counts
    return torch.where(targets == NO_CLASS, unlabeled, labelled)
