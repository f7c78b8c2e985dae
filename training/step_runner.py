"""A step of learning (StepRunner.take_step): augmentation, forward, loss, backward, optimizer, sums per class."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longtail.conf.options.training import RunOptions
from longtail.training.distributed import Rank
from longtail.training.epoch_plan import EpochSamples
from longtail.training.losses import hard_targets
from longtail.training.metrics import ClassTotals
from longtail.training.objective import Task
from longtail.training.precision import autocast
from longtail.training.step import Rows, Step

# torch exports no public base class of them.
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class StepRunner:
    """Takes the steps of a training, and holds what each step uses.

    model: called in each step: the trained module, perhaps compiled or wrapped to average gradients
    totals: to which each step adds its samples
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    task: Task
    options: RunOptions
    rank: Rank
    totals: ClassTotals

    def set_learning_rate(self, rate: float | Tensor) -> None:
        """A tensor, on the device, is read when a step runs."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def take_step(
        self, images: Tensor, samples: EpochSamples, *, number: int, num_steps: int, labelled: Rows, unlabeled: Rows
    ) -> None:
        """Learn from this rank's part of a step: images (n, C, H, W) uint8 and what is known of them.

        number, num_steps, labelled, unlabeled: see Step
        """
        data, objective = self.task.data, self.task.objective
        inputs, targets = objective.training_inputs(data, images, samples.targets, samples.choices)
        step = Step(
            number=number,
            num_steps=num_steps,
            inputs=inputs,
            targets=targets,
            class_weights=samples.class_weights,
            choices=samples.choices,
            labelled=labelled,
            unlabeled=unlabeled,
        )
        self.rank.beat("forward")
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.options.precision, self.rank.device):
            outputs = self.model(*objective.model_inputs(step))  # (n, num_classes)
        logits, losses = objective.losses(outputs, step)  # losses: (n,), or (2 n,) with two anchors per image
        # (n,): the loss of an image with two anchors is their mean.
        image_losses = losses.view(len(images), -1).mean(dim=1)
        self.rank.beat("backward")
        (image_losses * samples.weights).sum().backward()
        self.optimizer.step()
        objective.after_step(step)
        # Of two views of an image the first is counted.
        self.totals.add(logits[: len(targets)].detach(), hard_targets(targets), losses.detach())


def learns_batch_norm(model: nn.Module, task: Task) -> bool:
    """Whether batch statistics are computed in training."""
    return any(isinstance(it, _BATCH_NORM) and not _is_frozen(it, task) for it in model.modules())


def set_training_mode(model: nn.Module, task: Task) -> None:
    """Set training mode, except for the batch norm of frozen layers, which keeps its running statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BATCH_NORM) and _is_frozen(module, task):
            module.eval()


def _is_frozen(batch_norm: nn.Module, task: Task) -> bool:
    # A companion network, like that of MoCo's keys, takes no gradients either, but uses the statistics of its batches.
    return task.objective.has_frozen_layers and not any(it.requires_grad for it in batch_norm.parameters())
