"""What FixMatch trains: a network, the average of its weights, and the method that makes the pseudo-labels.

The average (Tarvainen & Valpola 2017) is the network that is measured, saved and labels; the trained weights and the
method's state lie in the checkpoint beside it.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from longtail.conf.vocabulary import NO_CLASS
from longtail.training.losses import LossFunction
from longtail.training.metrics import ClassTotals
from longtail.training.semi.method import Answers, FixMatch
from longtail.training.semi.truth import count_pseudo_labels
from longtail.training.step import Step

if TYPE_CHECKING:
    from longtail.training.tasks import Task


class WeightAverage:
    """Moves the average after each step: w' <- d w' + (1 - d) w, d = min(decay, (1 + t)/(10 + t)) in step t from 1.

    A short training would else never forget the random weights that it began with.
    """

    def __init__(self, average: nn.Module, trained: nn.Module, decay: float) -> None:
        self._average = list(average.parameters())
        self._trained = list(trained.parameters())
        self._decay = decay

    @torch.no_grad()
    def follow(self, step: Step) -> None:
        number = step.number + 1
        decay = min(self._decay, (1 + number) / (10 + number))
        get_ema_multi_avg_fn(decay)(self._average, [it.detach() for it in self._trained], None)


class SemiLearner(nn.Module):
    """While training, images (V n, C, H, W) to Answers of the trained network; else to logits of the averaged one.

    network: the averaged one; trained: the other, None if --ema_decay 0 averages nothing and there is but one
    """

    def __init__(
        self, network: nn.Module, *, ema_decay: float, weak_apart: bool, thresholds: Tensor, truth: Tensor | None
    ) -> None:
        """weak_apart: the weak views of unlabeled images have a pass of their own, without gradients
        thresholds: (C,) smallest confidence of a pseudo-label; truth: (U,) classes of the unlabeled images, if known

        The method is given afterwards (`method`), as it may use the averaged network.
        """
        super().__init__()
        self.network = network
        self.trained = None
        self._average = None
        self._weak_apart, self._thresholds, self._truth = weak_apart, thresholds, truth
        if ema_decay:
            self.trained = copy.deepcopy(network)
            network.requires_grad_(False)
            _share_buffers(network, self.trained)
            self._average = WeightAverage(network, self.trained, ema_decay)
        self.method: FixMatch

    def train(self, mode: bool = True) -> "SemiLearner":
        super().train(mode)
        if self.trained is not None:
            self.network.eval()
        return self

    def forward(
        self, images: Tensor, labelled: Tensor | None = None, unlabeled: Tensor | None = None
    ) -> Answers | Tensor:
        """images: all weak views, then all strong ones, once or more; labelled, unlabeled: their rows among the n

        Nothing is learned from the strong views of labelled images: they are not looked at, and their answers are 0.
        """
        if not self.training:
            return self.network(images)
        assert labelled is not None and unlabeled is not None
        num_images = len(labelled) + len(unlabeled)
        strong = [start + unlabeled for start in range(num_images, len(images), num_images)]

        def by_view(values: Tensor, rows: Tensor) -> Tensor:
            """(V, n, K) values (k, K) in their rows (k,) of all views, and 0 elsewhere."""
            everywhere = values.new_zeros(len(images), values.shape[1]).index_copy(0, rows, values)
            return everywhere.view(-1, num_images, values.shape[1])

        if not self._weak_apart:
            rows = torch.cat([torch.arange(num_images, device=images.device), *strong])
            return Answers(*(by_view(part, rows) for part in self._answers(images[rows])))
        with torch.no_grad():
            taken_for = self._answers(images[unlabeled])
        rows = torch.cat([labelled, *strong])
        learned = self._answers(images[rows])
        rows = torch.cat([rows, unlabeled])
        return Answers(*(by_view(torch.cat([own, other]), rows) for own, other in zip(learned, taken_for, strict=True)))

    def _answers(self, images: Tensor) -> Answers:
        trained = self.network if self.trained is None else self.trained
        features = trained.features(images.contiguous(memory_format=torch.channels_last))  # (N, D)
        logits = trained.fc(features)  # (N, C)
        return Answers(features, logits, self.method.backbone_logits(features, logits))

    def step_losses(self, task: "Task", outputs: Answers, step: Step) -> tuple[Tensor, Tensor]:
        """(n, C) logits of the weak views, by the head that is kept, and losses (n,) of the images."""
        answers = Answers(
            outputs.features.float(),
            task.logit_scale * outputs.logits.float(),
            task.logit_scale * outputs.backbone_logits.float(),
        )
        with torch.no_grad():
            probabilities = self.method.probabilities(answers.weak(), step)  # (n, C)
            confidence, pseudo_labels = probabilities.max(dim=1)  # (n,), (n,)
            is_sure = confidence >= self._thresholds[pseudo_labels]  # (n,)
        losses = fixmatch_losses(answers.backbone_logits, step.targets, pseudo_labels, is_sure, loss=task.loss)
        if task.pseudo_label_totals is not None:
            self._count(task.pseudo_label_totals, step, pseudo_labels, is_sure, confidence, losses.detach())
        further = self.method.further_losses(answers, step)
        return answers.logits[0], losses if further is None else losses + further

    def after_step(self, step: Step) -> None:
        if self._average:
            self._average.follow(step)

    def _count(self, totals: ClassTotals, step: Step, *of_samples: Tensor) -> None:
        assert step.unlabeled is not None and self._truth is not None
        truth = self._truth[step.unlabeled.my_places - self.method.setting.num_labelled]
        count_pseudo_labels(totals, truth, *(values[step.unlabeled.mine] for values in of_samples))


def fixmatch_losses(
    logits: Tensor, targets: Tensor, pseudo_labels: Tensor, is_sure: Tensor, *, loss: LossFunction
) -> Tensor:
    """(n,) the loss of a labelled image's weak view; of an unlabeled one's strong views for its pseudo-label, if sure.

    logits: (V, n, C) of the weak and then the strong views, over which the loss is the mean
    targets: (n,), NO_CLASS for unlabeled; pseudo_labels, is_sure: (n,) of all images
    """
    weak, *strong = logits  # (n, C) each
    # Both for every image: to pick out those with labels would make a GPU wait for their number.
    own = loss(weak, targets.clamp(min=0))
    others = torch.stack([loss(of_view, pseudo_labels) for of_view in strong]).mean(dim=0) * is_sure
    return torch.where(targets == NO_CLASS, others, own)


def _share_buffers(network: nn.Module, trained: nn.Module) -> None:
    """Give the averaged network the trained one's batch-norm statistics themselves: they are averages already."""
    pairs: Sequence[tuple[nn.Module, nn.Module]] = list(zip(network.modules(), trained.modules(), strict=True))
    for ours, theirs in pairs:
        for name, buffer in theirs.named_buffers(recurse=False):
            setattr(ours, name, buffer)
