"""What is learned: the images and targets of a training, and how it counts classes.

Supervised training learns the labels, semi-supervised training labels and
pseudo-labels together, rotation pre-training (Gidaris et al. 2018) by how many
quarter turns an image was rotated, contrastive pre-training which view is of the
same image. The loop (training/loop.py) is the same for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conf.datasets import dataset_facts
from conf.errors import UserError
from conf.schema import ContrastiveOptions, PretrainRotOptions, RunOptions, SupervisedOptions, TrainSemiOptions
from data.contract import TEST, TRAIN, UNLABELED, VAL
from data.loader import load_pseudo_labels, load_published_pseudo_labels, load_split
from data.longtail import shot_groups
from data.manifest import Manifest
from training.augmentation import (
    Normalisation,
    crop_and_flip,
    draw_crop_flip,
    measured_normalisation,
    rotate_quarter_turns,
)
from training.losses import LossFunction, build_loss, cross_entropy, head_of
from training.rebalancing import class_weights
from training.views import draw_view, view

TargetMaker = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(images (N, C, S, S), labels (N,), quarter turns (N,)) to network inputs and targets (N,)."""

TrainingInputs = Callable[["Task", Tensor, slice, torch.Generator], tuple[Tensor, Tensor]]
"""(task, indices of the global batch (N,), this rank's part of it, generator) to network inputs and targets."""

VIEW_NAMES = ["same image", "another image"]
ROTATION_NAMES = ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]


@dataclass(frozen=True)
class Samples:
    """Images of a split on the device of the training.

    ids: (N,) int64; images: (N, C, H, W) uint8; labels: (N,) int64; weights: (N,) float32, 1 or omega
    """

    ids: Tensor
    images: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training's data and rules.

    evaluation: the splits that are measured after every epoch, by name
    class_counts: training images per class, pseudo-labelled ones included
    pseudo_label_counts: of these, the pseudo-labelled ones; empty: none
    shot_groups: many, medium or few, by the labelled images alone: pseudo-labels do not move a class to another group
    chosen: what validation data chose before the training, by name
    frozen_backbone: only the head learns
    """

    phase: str
    class_names: list[str]
    class_counts: list[int]
    shot_groups: list[str]
    train: Samples
    evaluation: dict[str, Samples]
    normalisation: Normalisation
    head: str
    loss: LossFunction
    train_rule: str
    make_targets: TargetMaker
    mirror: bool
    training_inputs: TrainingInputs = field(default_factory=lambda: cropped_inputs)
    pseudo_label_counts: list[int] = field(default_factory=list)
    chosen: dict[str, float] = field(default_factory=dict)
    frozen_backbone: bool = False

    def sample_weights(self, *, epoch: int, num_epochs: int) -> Tensor:
        """(N,) loss weight of each training sample in an epoch counted from 0."""
        if self.train_rule == "None":
            return self.train.weights
        weights = class_weights(self.train_rule, self.class_counts, epoch=epoch, num_epochs=num_epochs)
        return self.train.weights * weights.to(self.train.labels.device)[self.train.labels]


def cropped_inputs(task: Task, batch: Tensor, part: slice, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Randomly cropped and flipped images (n, C, H, W), as the task's targets (n,) want them."""
    choices = draw_crop_flip(len(batch), height=task.train.images.shape[2], flip=task.mirror, generator=generator)
    turns = torch.randint(4, (len(batch),), generator=generator)
    mine = batch[part].to(task.train.images.device)
    # Cropped before it is normalised, as published: the padding is black, not the mean colour.
    images = crop_and_flip(task.train.images[mine], choices.part(part))
    return task.make_targets(task.normalisation.apply(images), task.train.labels[mine], turns[part])


def two_views(
    task: Task, batch: Tensor, part: slice, generator: torch.Generator, *, anchors_per_image: int
) -> tuple[Tensor, Tensor]:
    """Two strongly augmented views (2, n, C, H, W); targets (n * anchors_per_image,): always 0, the same image."""
    images = task.train.images[batch[part].to(task.train.images.device)].float() / 255  # (n, C, H, W)
    height, width = images.shape[2:]
    views = []
    for _ in range(2):
        choices = draw_view(len(batch), height=height, width=width, flip=task.mirror, generator=generator)
        views.append(task.normalisation.apply_to_unit(view(images, choices.part(part))))
    targets = torch.zeros(anchors_per_image * len(images), dtype=torch.int64, device=images.device)
    return torch.stack(views), targets


def own_labels(images: Tensor, labels: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    return images, labels


def rotations(images: Tensor, labels: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    return rotate_quarter_turns(images, turns), turns.to(images.device)


def supervised_task(options: SupervisedOptions, set_dir: Path, manifest: Manifest, device: torch.device) -> Task:
    """Labels only."""
    labelled = _load(set_dir, TRAIN, manifest, device)
    return _label_task(options, labelled, labelled, set_dir, manifest, device)


def semi_supervised_task(
    options: TrainSemiOptions, set_dir: Path, manifest: Manifest, device: torch.device, *, pseudo_labels: Path
) -> Task:
    """Labelled and pseudo-labelled samples together; class counts are those of both."""
    labelled = _load(set_dir, TRAIN, manifest, device)
    pseudo = _pseudo_labelled(options, set_dir, manifest, device, pseudo_labels)
    joined = Samples(
        torch.cat([labelled.ids, pseudo.ids]),
        torch.cat([labelled.images, pseudo.images]),
        torch.cat([labelled.labels, pseudo.labels]),
        torch.cat([labelled.weights, pseudo.weights]),
    )
    task = _label_task(options, joined, labelled, set_dir, manifest, device)
    return replace(task, pseudo_label_counts=torch.bincount(pseudo.labels, minlength=manifest.num_classes).tolist())


def rotation_task(options: PretrainRotOptions, set_dir: Path, manifest: Manifest, device: torch.device) -> Task:
    """The labelled part's images without their labels."""
    height, width, _ = manifest.image_shape
    if height != width:
        raise UserError(f"rotation needs square images, {manifest.dataset} has {height}x{width}")
    images = _load(set_dir, TRAIN, manifest, device)
    # Each image is seen at one random turn an epoch.
    counts = [len(images) // len(ROTATION_NAMES)] * len(ROTATION_NAMES)
    return Task(
        phase=options.phase,
        class_names=ROTATION_NAMES,
        class_counts=counts,
        shot_groups=_groups(counts, options),
        train=images,
        evaluation=_evaluation_splits(set_dir, manifest, device),
        normalisation=_normalisation(options, images),
        head="linear",
        loss=cross_entropy,
        train_rule="None",
        make_targets=rotations,
        mirror=dataset_facts(options.dataset).horizontal_flip,
    )


def contrastive_task(
    options: ContrastiveOptions, set_dir: Path, manifest: Manifest, device: torch.device, *, anchors_per_image: int
) -> Task:
    """The labelled part's images without their labels, each the only one of its kind. There is nothing to evaluate."""
    images = _load(set_dir, TRAIN, manifest, device)
    counts = [len(images), 0]
    return Task(
        phase=options.phase,
        class_names=VIEW_NAMES,
        class_counts=counts,
        shot_groups=_groups(counts, options),
        train=images,
        evaluation={},
        normalisation=_normalisation(options, images),
        head="projection",
        loss=cross_entropy,
        train_rule="None",
        make_targets=own_labels,
        mirror=dataset_facts(options.dataset).horizontal_flip,
        training_inputs=partial(two_views, anchors_per_image=anchors_per_image),
    )


def _label_task(
    options: SupervisedOptions,
    train: Samples,
    labelled: Samples,
    set_dir: Path,
    manifest: Manifest,
    device: torch.device,
) -> Task:
    counts = torch.bincount(train.labels, minlength=manifest.num_classes).tolist()
    return Task(
        phase=options.phase,
        class_names=manifest.class_names,
        class_counts=counts,
        shot_groups=_groups(manifest.counts[TRAIN], options),
        train=train,
        evaluation=_evaluation_splits(set_dir, manifest, device),
        normalisation=_normalisation(options, labelled),
        head=head_of(options.loss_type),
        loss=build_loss(options, counts, device),
        train_rule=options.train_rule,
        make_targets=own_labels,
        mirror=dataset_facts(options.dataset).horizontal_flip,
    )


def _groups(labelled_counts: Sequence[int], options: RunOptions) -> list[str]:
    return list(shot_groups(labelled_counts, many_shot=options.many_shot, few_shot=options.few_shot))


def _normalisation(options: RunOptions, labelled: Samples) -> Normalisation:
    facts = dataset_facts(options.dataset)
    if facts.mean is not None and facts.std is not None:
        return Normalisation(facts.mean, facts.std)
    return measured_normalisation(labelled.images)


def _evaluation_splits(set_dir: Path, manifest: Manifest, device: torch.device) -> dict[str, Samples]:
    return {split: _load(set_dir, split, manifest, device) for split in (VAL, TEST) if sum(manifest.counts[split])}


def image_tensor(images: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 array to (N, C, H, W), channels last in memory."""
    # Arrow's buffers are read-only, which torch does not know of.
    own = images if images.flags.writeable else images.copy()
    return torch.from_numpy(own).permute(0, 3, 1, 2)


def _samples(ids: np.ndarray, images: np.ndarray, labels: np.ndarray, weight: float, device: torch.device) -> Samples:
    return Samples(
        torch.from_numpy(ids.copy()),
        image_tensor(images).to(device),
        torch.from_numpy(labels).to(device),
        torch.full((len(labels),), weight, device=device),
    )


def _load(set_dir: Path, split: str, manifest: Manifest, device: torch.device) -> Samples:
    arrays = load_split(set_dir, split, manifest)
    assert arrays.labels is not None, "the unlabeled part is never trained on without pseudo-labels"
    return _samples(arrays.ids, arrays.images, arrays.labels, 1.0, device)


def _pseudo_labelled(
    options: TrainSemiOptions, set_dir: Path, manifest: Manifest, device: torch.device, table: Path
) -> Samples:
    unlabeled = load_split(set_dir, UNLABELED, manifest)
    if table.is_file():
        ids, labels = unlabeled.ids, load_published_pseudo_labels(table, unlabeled.ids)
        kept = np.ones(len(ids), bool)
    else:
        ids, labels, confidence = load_pseudo_labels(table)
        kept = confidence >= options.confidence_threshold
    if not np.array_equal(ids, unlabeled.ids):
        raise UserError(
            f"{table} labels other images than the unlabeled part of {set_dir}: run gen_pseudolabels for it"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < manifest.num_classes:
        raise UserError(f"{table} has labels outside 0..{manifest.num_classes - 1}: write them again")
    return _samples(ids[kept], unlabeled.images[kept], labels[kept], options.unlabeled_weight, device)
