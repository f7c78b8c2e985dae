"""FixMatch's pseudo-labels, and what a method may change about them: base class of the methods in this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from longtail.conf.base.user_code import load_code
from longtail.conf.options.fixmatch import BALANCING
from longtail.conf.options.semi import TrainSemiOptions
from longtail.models.network import Network
from longtail.training.distributed import Rank
from longtail.training.metrics import Confusion
from longtail.training.step import Step


class ViewOutputs(NamedTuple):
    """Outputs for the V views of a step's n images: the weak view first, then the strong ones.

    features: (V, n, D)
    logits: (V, n, C) of the head that the network keeps
    backbone_logits: (V, n, C) of the head that FixMatch learns; the same unless a method has a head of its own

    For weak views alone there is no dimension V.
    """

    features: Tensor
    logits: Tensor
    backbone_logits: Tensor

    def weak(self) -> "ViewOutputs":
        """Outputs for the n weak views, without gradients."""
        return ViewOutputs(*(part.detach()[0] for part in self))


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """What a method may use of its training.

    labelled_counts: (C,) labelled images per class, without pseudo-labelled images that were added to them
    num_labelled: number of labelled samples, added ones included; the unlabeled ones follow them in data.train
    head: the network's, a key of models.heads.HEADS
    thresholds: (C,) smallest confidence of a pseudo-label, per class
    average: the network with the averaged weights, or the trained one itself if none are averaged
    held_out_confusion: computes that network's confusion matrix on the validation images; None if there are none
    generation: 0 for a first training, 1 for one on the pseudo-labels of the first, ...
    """

    options: TrainSemiOptions
    rank: Rank
    labelled_counts: list[int]
    num_labelled: int
    num_unlabeled: int
    num_features: int
    head: str
    thresholds: Tensor
    average: Network
    generation: int
    held_out_confusion: Callable[[], Confusion] | None

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.labelled_counts)

    def shares(self, *, power: float = 1.0) -> Tensor:
        """(C,) float32 class shares of the labelled images, raised to a power and normalised."""
        counts = torch.tensor(self.labelled_counts, dtype=torch.float64) ** power
        return (counts / counts.sum()).float().to(self.rank.device)


class FixMatch(nn.Module):
    """Pseudo-labels from the softmax of the weak views; no further losses.

    --pseudo_label_tau subtracts tau times the log prior of the labelled classes from the logits (Menon et al. 2021,
    eq. 9), as if the classes were balanced.

    A method's buffers are its state over the steps: the same on all ranks, and saved in the checkpoint.
    """

    adjustment: Tensor

    def __init__(self, context: TrainingContext) -> None:
        super().__init__()
        self.context = context
        # A class without labelled images has no prior: count one image.
        counts = torch.tensor(context.labelled_counts, dtype=torch.float64).clamp(min=1)
        adjustment = context.options.pseudo_label_tau * (counts / counts.sum()).log()
        self.register_buffer("adjustment", adjustment.float().to(context.rank.device), persistent=False)

    def backbone_logits(self, features: Tensor, logits: Tensor) -> Tensor:
        """(N, C) logits of the head that FixMatch learns, from features (N, D) and logits (N, C) of the kept head."""
        return logits

    def probabilities(self, weak: ViewOutputs, step: Step) -> Tensor:
        """(n, C) class probabilities of the images, from their weak views; those of labelled images are ignored.

        Called once per step, without gradients; a method updates its state here.
        """
        return (weak.backbone_logits - self.adjustment).softmax(dim=1)

    def further_losses(self, views: ViewOutputs, step: Step) -> Tensor | None:
        """(n,) losses in addition to FixMatch's, or None; called after `probabilities`."""
        return None


def load_method(balancing: str) -> type[FixMatch]:
    """The method of --balancing, a key of conf.options.fixmatch.BALANCING."""
    method = load_code(BALANCING[balancing].code, option="--balancing")
    assert issubclass(method, FixMatch)
    return method
