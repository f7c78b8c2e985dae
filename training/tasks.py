"""What is learned: the images and targets of a training, and how it counts classes.

Supervised training learns the labels, semi-supervised training (training/pseudo_labels.py)
labels and pseudo-labels together, rotation pre-training (Gidaris et al. 2018) by how many
quarter turns an image was rotated, contrastive pre-training which view is of the
same image. The loop (training/loop.py) is the same for all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.pretraining import ContrastiveOptions, PretrainRotOptions
from longtail.conf.options.training import RunOptions, SupervisedOptions
from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, VAL
from longtail.data.loader import load_split
from longtail.data.longtail import shot_groups
from longtail.data.manifest import Manifest
from longtail.data.storage import Place
from longtail.data.stream import StreamedImages, open_split
from longtail.training.augmentation import (
    Choices,
    CropFlip,
    Normalisation,
    crop_and_flip,
    draw_crop_flip,
    measured_normalisation,
    rotate_quarter_turns,
)
from longtail.training.images import image_tensor, placed
from longtail.training.losses import LossFunction, build_loss, cross_entropy, head_of, logit_scale_of
from longtail.training.metrics import ClassTotals
from longtail.training.step import Step
from longtail.training.views import ViewChoices, draw_view, view

TargetMaker = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(images (N, C, S, S), their targets, quarter turns (N,)) to network inputs and targets."""

Draw = Callable[["Task", int, torch.Generator], Choices]
"""(task, number of samples, generator) to the random choices of an epoch."""

TrainingInputs = Callable[["Task", Tensor, Tensor, Choices], tuple[Tensor, Tensor]]
"""(task, images (n, C, H, W) uint8, their targets, their choices) to network inputs and targets."""

StepLosses = Callable[["Task", Any, Step], tuple[Tensor, Tensor]]
"""(task, what the trained module returns, step) to logits (m, C), of which the first are measured by the targets, and
losses (n,), or (2 n,) where an image is asked twice."""

VIEW_NAMES = ["same image", "another image"]
ROTATION_NAMES = ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]


@dataclass(frozen=True)
class Samples:
    """Images of a split (training/images.py says where), and what is known of them, on the device of the training.

    ids: (N,) int64, on the CPU; images: (N, C, H, W) uint8, or on disk; labels: (N,) int64
    weights: (N,) float32, 1 or omega
    probabilities: (N, C) float32 of all classes where pseudo-labels are soft; the label is the likeliest one
    """

    ids: Tensor
    images: Tensor | StreamedImages
    labels: Tensor
    weights: Tensor
    probabilities: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        if isinstance(self.images, StreamedImages):
            height, width, channels = self.images.image_shape
            return channels, height, width
        return tuple(self.images.shape[1:])

    @property
    def targets(self) -> Tensor:
        """What is to be learned: (N,) classes, or (N, C) probabilities."""
        return self.labels if self.probabilities is None else self.probabilities

    def to(self, device: torch.device) -> "Samples":
        """The same with the images on the device if they fit, and all but the ids there in any case."""
        probabilities = None if self.probabilities is None else self.probabilities.to(device)
        return Samples(
            self.ids, placed(self.images, device), self.labels.to(device), self.weights.to(device), probabilities
        )

    def class_counts(self, num_classes: int) -> list[int]:
        """Samples of each class, a soft label counting for the likeliest one, NO_CLASS for none."""
        return torch.bincount(self.labels[self.labels != NO_CLASS], minlength=num_classes).tolist()


def own_losses(task: "Task", outputs: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """The loss that held-out images are measured by, too."""
    logits = task.logit_scale * outputs.float()
    return logits, task.loss(logits, step.targets)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training's data and rules.

    evaluation: the splits that are measured after every epoch, by name
    class_counts: training images per class, pseudo-labelled ones included
    rule_counts: the class sizes that loss and rule go by: class_counts, or those of the labelled images alone
    pseudo_label_counts: of class_counts, the pseudo-labelled ones; empty: none
    shot_groups: many, medium or few, by the labelled images alone: pseudo-labels do not move a class to another group
    num_labelled: how many training samples, the first ones, have labels of their own
    unlabeled_ratio: of a step's pseudo-labelled to its labelled samples, None where all are shuffled together
    pseudo_label_round: 0 without pseudo-labels, 1 with those of a network that had none, and so on
    model_inputs: what of a step the trained module is called with
    step_losses: what is learned in a step
    after_step: what else moves on when the weights have
    unlabeled_truth: (U,) classes of the unlabeled images, if known: only to count how many pseudo-labels are right
    pseudo_label_totals: these counts, of an epoch
    logit_scale: what the head's outputs are multiplied with to be logits
    chosen: what validation data chose before the training, by name
    frozen_backbone: only the head learns
    """

    phase: str
    class_names: list[str]
    class_counts: list[int]
    rule_counts: list[int]
    shot_groups: list[str]
    train: Samples
    num_labelled: int
    evaluation: dict[str, Samples]
    normalisation: Normalisation
    head: str
    loss: LossFunction
    train_rule: str
    make_targets: TargetMaker
    mirror: bool
    model_inputs: Callable[[Step], tuple[Tensor, ...]] = lambda step: (step.inputs,)
    step_losses: StepLosses = own_losses
    after_step: Callable[[Step], None] = lambda step: None
    unlabeled_truth: Tensor | None = None
    pseudo_label_totals: ClassTotals | None = None
    logit_scale: float = 1.0
    unlabeled_ratio: float | None = None
    pseudo_label_round: int = 0
    draw: Draw = field(default_factory=lambda: draw_crops)
    training_inputs: TrainingInputs = field(default_factory=lambda: cropped_inputs)
    pseudo_label_counts: list[int] = field(default_factory=list)
    chosen: dict[str, float] = field(default_factory=dict)
    frozen_backbone: bool = False


@dataclass(frozen=True)
class Crops(Choices):
    """A crop and flip of each image, and quarter turns (N,) for who learns these."""

    crop_flip: CropFlip
    turns: Tensor


def draw_crops(task: Task, num_samples: int, generator: torch.Generator) -> Crops:
    _, height, _ = task.train.image_shape
    crop_flip = draw_crop_flip(num_samples, height=height, flip=task.mirror, generator=generator)
    return Crops(crop_flip, torch.randint(4, (num_samples,), generator=generator))


def cropped_inputs(task: Task, images: Tensor, targets: Tensor, choices: Crops) -> tuple[Tensor, Tensor]:
    """Randomly cropped and flipped images (n, C, H, W), as the task's targets (n,) want them."""
    # Cropped before it is normalised, as published: the padding is black, not the mean colour.
    images = task.normalisation.apply(crop_and_flip(images, choices.crop_flip))
    return task.make_targets(images, targets, choices.turns)


@dataclass(frozen=True)
class TwoViews(Choices):
    """Those of an image's two views."""

    first: ViewChoices
    second: ViewChoices


def draw_two_views(task: Task, num_samples: int, generator: torch.Generator) -> TwoViews:
    _, height, width = task.train.image_shape
    one = partial(draw_view, num_samples, height=height, width=width, flip=task.mirror, generator=generator)
    return TwoViews(one(), one())


def two_views(
    task: Task, images: Tensor, targets: Tensor, choices: TwoViews, *, anchors_per_image: int
) -> tuple[Tensor, Tensor]:
    """Two strongly augmented views (2, n, C, H, W); targets (n * anchors_per_image,): always 0, the same image."""
    images = images.float() / 255  # (n, C, H, W)
    views = [task.normalisation.apply_to_unit(view(images, of_view)) for of_view in (choices.first, choices.second)]
    return torch.stack(views), torch.zeros(anchors_per_image * len(images), dtype=torch.int64, device=images.device)


def own_labels(images: Tensor, targets: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    return images, targets


def rotations(images: Tensor, targets: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    return rotate_quarter_turns(images, turns), turns.to(images.device)


def supervised_task(options: SupervisedOptions, set_dir: Place, manifest: Manifest, device: torch.device) -> Task:
    """Labels only."""
    labelled = load_samples(options, set_dir, TRAIN, manifest)
    return label_task(options, labelled, labelled, set_dir, manifest, device)


def rotation_task(options: PretrainRotOptions, set_dir: Place, manifest: Manifest, device: torch.device) -> Task:
    """The labelled part's images without their labels."""
    height, width, _ = manifest.image_shape
    if height != width:
        raise UserError(f"rotation needs square images, {manifest.dataset} has {height}x{width}")
    images = _without_labels(load_samples(options, set_dir, TRAIN, manifest))
    # Each image is seen at one random turn an epoch.
    counts = [len(images) // len(ROTATION_NAMES)] * len(ROTATION_NAMES)
    return Task(
        phase=options.phase,
        class_names=ROTATION_NAMES,
        class_counts=counts,
        rule_counts=counts,
        shot_groups=_groups(counts, options),
        train=images.to(device),
        num_labelled=0,
        evaluation=_evaluation_splits(options, set_dir, manifest, device),
        normalisation=_normalisation(options, images, manifest),
        head="linear",
        loss=cross_entropy,
        train_rule="None",
        make_targets=rotations,
        mirror=dataset_facts(options.dataset).horizontal_flip,
    )


def contrastive_task(
    options: ContrastiveOptions, set_dir: Place, manifest: Manifest, device: torch.device, *, anchors_per_image: int
) -> Task:
    """The labelled part's images without their labels, each the only one of its kind. There is nothing to evaluate."""
    images = _without_labels(load_samples(options, set_dir, TRAIN, manifest))
    counts = [len(images), 0]
    return Task(
        phase=options.phase,
        class_names=VIEW_NAMES,
        class_counts=counts,
        rule_counts=counts,
        shot_groups=_groups(counts, options),
        train=images.to(device),
        num_labelled=0,
        evaluation={},
        normalisation=_normalisation(options, images, manifest),
        head="projection",
        loss=cross_entropy,
        train_rule="None",
        make_targets=own_labels,
        mirror=dataset_facts(options.dataset).horizontal_flip,
        draw=draw_two_views,
        training_inputs=partial(two_views, anchors_per_image=anchors_per_image),
    )


def label_task(
    options: SupervisedOptions,
    train: Samples,
    labelled: Samples,
    set_dir: Place,
    manifest: Manifest,
    device: torch.device,
    *,
    rule_counts: list[int] | None = None,
) -> Task:
    """A training on train, of which the first ones are the labelled.

    rule_counts: class sizes that loss and rule go by, if they are not those of train
    """
    counts = train.class_counts(manifest.num_classes)
    rule_counts = rule_counts or counts
    head = head_of(options.loss_type)
    return Task(
        phase=options.phase,
        class_names=manifest.class_names,
        class_counts=counts,
        rule_counts=rule_counts,
        shot_groups=_groups(manifest.counts[TRAIN], options),
        train=train.to(device),
        num_labelled=len(labelled),
        evaluation=_evaluation_splits(options, set_dir, manifest, device),
        normalisation=_normalisation(options, labelled, manifest),
        head=head,
        logit_scale=logit_scale_of(head, options),
        loss=build_loss(options, rule_counts, device),
        train_rule=options.train_rule,
        make_targets=own_labels,
        mirror=dataset_facts(options.dataset).horizontal_flip,
        pseudo_label_counts=[of_all - own for of_all, own in zip(counts, manifest.counts[TRAIN], strict=True)],
    )


def _groups(labelled_counts: Sequence[int], options: RunOptions) -> list[str]:
    return list(shot_groups(labelled_counts, many_shot=options.many_shot, few_shot=options.few_shot))


def _normalisation(options: RunOptions, labelled: Samples, manifest: Manifest) -> Normalisation:
    facts = dataset_facts(options.dataset)
    if facts.mean is not None and facts.std is not None:
        return Normalisation(facts.mean, facts.std)
    if isinstance(labelled.images, StreamedImages):
        # Measured when the set was prepared: a pass over the files only for this would cost an epoch.
        return Normalisation(tuple(manifest.channel_mean), tuple(std or 1.0 for std in manifest.channel_std))
    return measured_normalisation(labelled.images)


def _evaluation_splits(
    options: RunOptions, set_dir: Place, manifest: Manifest, device: torch.device
) -> dict[str, Samples]:
    present = [split for split in (VAL, TEST) if sum(manifest.counts[split])]
    return {split: load_samples(options, set_dir, split, manifest).to(device) for split in present}


def new_samples(ids: np.ndarray, images: np.ndarray | StreamedImages, labels: np.ndarray, weight: float) -> Samples:
    """On the CPU or on disk, all of one weight."""
    return Samples(
        torch.from_numpy(ids.copy()),
        images if isinstance(images, StreamedImages) else image_tensor(images),
        torch.from_numpy(labels),
        torch.full((len(labels),), weight),
    )


def _without_labels(samples: Samples) -> Samples:
    """All of class 0: so that what ignores the labels cannot have learned them."""
    return replace(samples, labels=torch.zeros_like(samples.labels))


def is_streamed(options: RunOptions, manifest: Manifest, splits: Sequence[str]) -> bool:
    """Whether the decoded images of the splits together are more than --max_resident_gib."""
    num_images = sum(manifest.num_images(split) for split in splits)
    return num_images * math.prod(manifest.image_shape) > options.max_resident_gib * 2**30


def load_samples(
    options: RunOptions, set_dir: Place, split: str, manifest: Manifest, *, streamed: bool | None = None
) -> Samples:
    """A split with labels, on the CPU or on disk, by its size if nothing is said."""
    streamed = is_streamed(options, manifest, (split,)) if streamed is None else streamed
    found = (open_split if streamed else load_split)(set_dir, split, manifest)
    assert found.labels is not None, "the unlabeled part is never trained on without pseudo-labels"
    return new_samples(found.ids, found.images, found.labels, 1.0)
