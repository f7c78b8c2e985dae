"""FixMatch's pseudo-labels, and what a method on top of it may change: base of the others in this directory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from longtail.conf.options.semi import TrainSemiOptions
from longtail.training.distributed import Rank
from longtail.training.metrics import Confusion
from longtail.training.step import Step


class Answers(NamedTuple):
    """What a network says of the V views of a step's n images: of the weak ones, then of the strong ones.

    features: (V, n, D)
    logits: (V, n, C) of the head that the network keeps
    backbone_logits: (V, n, C) of the one that FixMatch learns: the same, but for a method with a head of its own

    Of weak views alone there is no V.
    """

    features: Tensor
    logits: Tensor
    backbone_logits: Tensor

    def weak(self) -> "Answers":
        """Of the n weak views, without gradients."""
        return Answers(*(part.detach()[0] for part in self))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method knows of its training.

    labelled_counts: (C,) sizes of the classes among the labelled images, without those that were added to them
    num_labelled: labelled images, added ones included: task.train has the unlabeled ones behind them
    head: the network's, a key of models.heads.HEADS
    thresholds: (C,) smallest confidence of a pseudo-label of each class
    average: the network of the averaged weights; the trained one itself if none are averaged
    held_out_confusion: how that network is mistaken on the held-out images as it is then; None if none are held out
    generation: 0 for a first training, 1 for one on the pseudo-labels of that, ...
    """

    options: TrainSemiOptions
    rank: Rank
    labelled_counts: list[int]
    num_labelled: int
    num_unlabeled: int
    num_features: int
    head: str
    thresholds: Tensor
    average: nn.Module
    generation: int
    held_out_confusion: Callable[[], Confusion] | None

    @property
    def num_classes(self) -> int:
        return len(self.labelled_counts)

    def shares(self, *, power: float = 1.0) -> Tensor:
        """(C,) float32 shares of the classes among the labelled images, to a power and normalised again."""
        counts = torch.tensor(self.labelled_counts, dtype=torch.float64) ** power
        return (counts / counts.sum()).float().to(self.rank.device)


class FixMatch(nn.Module):
    """What an unlabeled image is taken for is the softmax of its weak view; nothing more is learned.

    --pseudo_label_tau lowers the logits before by tau times the log prior of the labelled classes (Menon et al. 2021,
    eq. 9): the pseudo-labels are then those of balanced classes.

    A method's buffers are its state over the steps. They are the same on all ranks, and lie in the checkpoint.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        # A class without labelled images has no prior: it is taken to have one image.
        counts = torch.tensor(setting.labelled_counts, dtype=torch.float64).clamp(min=1)
        adjustment = setting.options.pseudo_label_tau * (counts / counts.sum()).log()
        self.register_buffer("adjustment", adjustment.float().to(setting.rank.device), persistent=False)

    def backbone_logits(self, features: Tensor, logits: Tensor) -> Tensor:
        """(N, C) of the head that FixMatch learns, by features (N, D) and logits (N, C) of the kept head."""
        return logits

    def probabilities(self, weak: Answers, step: Step) -> Tensor:
        """(n, C) what each image is taken for, by its weak view; of labelled images it is of no concern.

        Called once a step, without gradients: state moves on here.
        """
        return (weak.backbone_logits - self.adjustment).softmax(dim=1)

    def further_losses(self, answers: Answers, step: Step) -> Tensor | None:
        """(n,) what is learned beside FixMatch's losses; called after probabilities."""
        return None
