"""What a training learns: how images become network inputs, and network outputs losses.

The base class learns the targets of randomly cropped images, which is all that supervised training and training on
fixed pseudo-labels need. Rotation, contrastive and FixMatch trainings override what they do differently. The loop
(training/loop.py) is the same for all.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from longtail.conf.options.training import SupervisedOptions
from longtail.training.augmentation import Choices, CropFlip, crop_and_flip, draw_crop_flip
from longtail.training.losses import (
    LossFunction,
    WeightedLoss,
    build_loss,
    build_weighted_loss,
    cross_entropy,
    head_of,
    logit_scale_of,
)
from longtail.training.metrics import ClassTotals
from longtail.training.semi.image_pseudo_labels import ImagePseudoLabels
from longtail.training.step import Step
from longtail.training.training_data import TrainingData


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How a step learns: crop and flip each image, then the loss of the network's logits for the samples' targets.

    head: a key of models.heads.HEADS
    logit_scale: factor from the head's outputs to logits
    loss: losses (n,) of logits (n, C) and targets; train_rule: re-weighting or resampling (training/rebalancing.py)
    weighted_loss: what is learned instead of class weights times `loss`, if the loss applies the weights itself
    has_frozen_layers: some layers do not learn, and their batch norm keeps its statistics
    num_outputs: of the head; None for one per class
    chosen: hyper-parameters that were selected on validation data before the training, by name
    pseudo_label_totals: sums over the pseudo-labels of an epoch, if their true classes are known
    image_pseudo_labels: the latest pseudo-label of each unlabeled image in an epoch, if steps make them
    steps_are_alike: no step depends on its number or on how many of its samples have labels, so that a step recorded
    once can be replayed on others
    """

    head: str = "linear"
    logit_scale: float = 1.0
    loss: LossFunction = cross_entropy
    weighted_loss: WeightedLoss | None = None
    train_rule: str = "None"
    has_frozen_layers: bool = False
    num_outputs: int | None = None
    chosen: dict[str, float] = field(default_factory=dict)
    pseudo_label_totals: ClassTotals | None = None
    image_pseudo_labels: ImagePseudoLabels | None = None
    steps_are_alike: ClassVar[bool] = True

    def draw(self, data: TrainingData, num_samples: int, generator: torch.Generator) -> Choices:
        """Draw the random choices of an epoch, one row per sample."""
        _, height, _ = data.train.image_shape
        return draw_crop_flip(num_samples, height=height, flip=data.horizontal_flip, generator=generator)

    def training_inputs(
        self, data: TrainingData, images: Tensor, targets: Tensor, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        """Network inputs and targets of a step: images (n, C, H, W) uint8, their targets and their random choices."""
        assert isinstance(choices, CropFlip)
        # Cropped before it is normalised, as published: the padding is black, not the mean colour.
        return data.normalisation.apply(crop_and_flip(images, choices)), targets

    def evaluation_inputs(
        self, data: TrainingData, images: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Network inputs and targets (n,) of held-out images (n, C, H, W) uint8: the same in every epoch."""
        return data.normalisation.apply(images), labels

    def model_inputs(self, step: Step) -> tuple[Tensor, ...]:
        """Arguments of the trained module."""
        return (step.inputs,)

    def losses(self, outputs: object, step: Step) -> tuple[Tensor, Tensor]:
        """Logits (m, C), of which the first n belong to the targets, and losses (n,), or (2 n,) of two per image.

        outputs: what the trained module returned: (m, C) outputs of the head here, another type in other trainings
        """
        assert isinstance(outputs, Tensor)
        logits = self.logit_scale * outputs.float()
        return logits, self.loss_of(step)(logits, step.targets)

    def loss_of(self, step: Step) -> LossFunction:
        """The loss of the step's samples, with their class weights if it applies them itself."""
        weighted = self.weighted_loss
        if weighted is None:
            return self.loss
        return lambda logits, targets: weighted(logits, targets, step.class_weights)

    @property
    def mean_rule(self) -> str:
        """The rule by which class weights multiply the losses: none, if the loss applies them itself."""
        return self.train_rule if self.weighted_loss is None else "None"

    @property
    def inner_rule(self) -> str:
        """The rule by which class weights enter the loss itself."""
        return "None" if self.weighted_loss is None else self.train_rule

    def epoch_sums(self) -> list[Tensor]:
        """Sums of an epoch that steps add to, on the device: zeroed before it, and added over the ranks after it."""
        return [self.pseudo_label_totals.values] if self.pseudo_label_totals else []

    def epoch_scores(self) -> dict[str, float]:
        """Scores of the last epoch that this training alone has, by their name in EpochReport."""
        return {}

    def after_step(self, step: Step) -> None:
        """Update whatever follows the weights, after each optimizer step."""

    def check_learned(self, model: nn.Module, data: TrainingData, *, when: str, remedy: str) -> None:
        """Raise UserError if the network's outputs are no numbers, in a training that measures nothing held out."""


@dataclass(frozen=True)
class Task:
    """A training: what it learns, and from which data."""

    data: TrainingData
    objective: Objective

    def with_data(self, **changes: Any) -> "Task":
        """A copy with other fields of the data record."""
        return replace(self, data=replace(self.data, **changes))

    def with_objective(self, **changes: Any) -> "Task":
        """A copy with other fields of the objective."""
        return replace(self, objective=replace(self.objective, **changes))


def classification_objective(options: SupervisedOptions, rule_counts: list[int], device: torch.device) -> Objective:
    """The objective of --loss_type and --train_rule for class counts (C,)."""
    head = head_of(options.loss_type)
    return Objective(
        head=head,
        logit_scale=logit_scale_of(head, options),
        loss=build_loss(options, rule_counts, device),
        weighted_loss=build_weighted_loss(options),
        train_rule=options.train_rule,
    )
