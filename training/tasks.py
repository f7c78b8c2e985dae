"""What is learned: the images and targets of a training, and how it counts classes.

Supervised training learns the labels, semi-supervised training labels and
pseudo-labels together, rotation pre-training (Gidaris et al. 2018) by how many
quarter turns an image was rotated, contrastive pre-training which view is of the
same image. The loop (training/loop.py) is the same for all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from data.storage import Place
from data.stream import StreamedImages, open_split
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

TrainingInputs = Callable[["Task", Tensor, Tensor, slice, torch.Generator], tuple[Tensor, Tensor]]
"""(task, this rank's images (n, C, H, W), indices of the global batch (N,), this rank's part of it, generator) to
network inputs and targets."""

VIEW_NAMES = ["same image", "another image"]
ROTATION_NAMES = ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]


@dataclass(frozen=True)
class Samples:
    """Images of a split on the device of the training, or on disk (training/feeding.py reads either).

    ids: (N,) int64; images: (N, C, H, W) uint8; labels: (N,) int64; weights: (N,) float32, 1 or omega
    """

    ids: Tensor
    images: Tensor | StreamedImages
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        if isinstance(self.images, StreamedImages):
            height, width, channels = self.images.image_shape
            return channels, height, width
        return tuple(self.images.shape[1:])


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training's data and rules.

    evaluation: the splits that are measured after every epoch, by name
    class_counts: training images per class, pseudo-labelled ones included
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
    chosen: dict[str, float] = field(default_factory=dict)
    frozen_backbone: bool = False

    def sample_weights(self, *, epoch: int, num_epochs: int) -> Tensor:
        """(N,) loss weight of each training sample in an epoch counted from 0."""
        if self.train_rule == "None":
            return self.train.weights
        weights = class_weights(self.train_rule, self.class_counts, epoch=epoch, num_epochs=num_epochs)
        return self.train.weights * weights.to(self.train.labels.device)[self.train.labels]


def cropped_inputs(
    task: Task, images: Tensor, batch: Tensor, part: slice, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Randomly cropped and flipped images (n, C, H, W), as the task's targets (n,) want them."""
    choices = draw_crop_flip(len(batch), height=images.shape[2], flip=task.mirror, generator=generator)
    turns = torch.randint(4, (len(batch),), generator=generator)
    mine = batch[part].to(task.train.labels.device)
    # Cropped before it is normalised, as published: the padding is black, not the mean colour.
    cropped = crop_and_flip(images, choices.part(part))
    return task.make_targets(task.normalisation.apply(cropped), task.train.labels[mine], turns[part])


def two_views(
    task: Task, images: Tensor, batch: Tensor, part: slice, generator: torch.Generator, *, anchors_per_image: int
) -> tuple[Tensor, Tensor]:
    """Two strongly augmented views (2, n, C, H, W); targets (n * anchors_per_image,): always 0, the same image."""
    images = images.float() / 255  # (n, C, H, W)
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


def supervised_task(options: SupervisedOptions, set_dir: Place, manifest: Manifest, device: torch.device) -> Task:
    """Labels only."""
    labelled = _load(set_dir, TRAIN, manifest, options, device)
    return _label_task(options, labelled, labelled, set_dir, manifest, device)


def semi_supervised_task(
    options: TrainSemiOptions, set_dir: Place, manifest: Manifest, device: torch.device, *, pseudo_labels: Path
) -> Task:
    """Labelled and pseudo-labelled samples together; class counts are those of both."""
    # Both are kept in memory, or neither: they become one.
    streamed = _is_streamed(options, manifest, (TRAIN, UNLABELED))
    labelled = _load(set_dir, TRAIN, manifest, options, device, streamed=streamed)
    pseudo = _pseudo_labelled(options, set_dir, manifest, device, pseudo_labels, streamed=streamed)
    joined = Samples(
        torch.cat([labelled.ids, pseudo.ids]),
        labelled.images.followed_by(pseudo.images) if streamed else torch.cat([labelled.images, pseudo.images]),
        torch.cat([labelled.labels, pseudo.labels]),
        torch.cat([labelled.weights, pseudo.weights]),
    )
    return _label_task(options, joined, labelled, set_dir, manifest, device)


def rotation_task(options: PretrainRotOptions, set_dir: Place, manifest: Manifest, device: torch.device) -> Task:
    """The labelled part's images without their labels."""
    height, width, _ = manifest.image_shape
    if height != width:
        raise UserError(f"rotation needs square images, {manifest.dataset} has {height}x{width}")
    images = _load(set_dir, TRAIN, manifest, options, device)
    # Each image is seen at one random turn an epoch.
    counts = [len(images) // len(ROTATION_NAMES)] * len(ROTATION_NAMES)
    return Task(
        phase=options.phase,
        class_names=ROTATION_NAMES,
        class_counts=counts,
        shot_groups=_groups(counts, options),
        train=images,
        evaluation=_evaluation_splits(set_dir, manifest, options, device),
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
    images = _load(set_dir, TRAIN, manifest, options, device)
    counts = [len(images), 0]
    return Task(
        phase=options.phase,
        class_names=VIEW_NAMES,
        class_counts=counts,
        shot_groups=_groups(counts, options),
        train=images,
        evaluation={},
        normalisation=_normalisation(options, images, manifest),
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
    set_dir: Place,
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
        evaluation=_evaluation_splits(set_dir, manifest, options, device),
        normalisation=_normalisation(options, labelled, manifest),
        head=head_of(options.loss_type),
        loss=build_loss(options, counts, device),
        train_rule=options.train_rule,
        make_targets=own_labels,
        mirror=dataset_facts(options.dataset).horizontal_flip,
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
    set_dir: Place, manifest: Manifest, options: RunOptions, device: torch.device
) -> dict[str, Samples]:
    return {
        split: _load(set_dir, split, manifest, options, device) for split in (VAL, TEST) if sum(manifest.counts[split])
    }


def _is_streamed(options: RunOptions, manifest: Manifest, splits: Sequence[str]) -> bool:
    """Whether the decoded images of the splits together are more than --max_resident_gib."""
    num_images = sum(manifest.num_images(split) for split in splits)
    return num_images * math.prod(manifest.image_shape) > options.max_resident_gib * 2**30


def image_tensor(images: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 array to (N, C, H, W), channels last in memory."""
    # Arrow's buffers are read-only, which torch does not know of.
    own = images if images.flags.writeable else images.copy()
    return torch.from_numpy(own).permute(0, 3, 1, 2)


def images_at(images: Tensor, places: Tensor) -> Tensor:
    """(n, C, H, W) images at places (n,), channels last in memory like ``images``; faster than images[places]."""
    return images.permute(0, 2, 3, 1).index_select(0, places).permute(0, 3, 1, 2)


def _samples(
    ids: np.ndarray, images: np.ndarray | StreamedImages, labels: np.ndarray, weight: float, device: torch.device
) -> Samples:
    return Samples(
        torch.from_numpy(ids.copy()),
        images if isinstance(images, StreamedImages) else image_tensor(images).to(device),
        torch.from_numpy(labels).to(device),
        torch.full((len(labels),), weight, device=device),
    )


def _load(
    set_dir: Place,
    split: str,
    manifest: Manifest,
    options: RunOptions,
    device: torch.device,
    *,
    streamed: bool | None = None,
) -> Samples:
    """A labelled split, its images in memory or on disk, by their size if nothing is said."""
    streamed = _is_streamed(options, manifest, (split,)) if streamed is None else streamed
    found = (open_split if streamed else load_split)(set_dir, split, manifest)
    assert found.labels is not None, "the unlabeled part is never trained on without pseudo-labels"
    return _samples(found.ids, found.images, found.labels, 1.0, device)


def _pseudo_labelled(
    options: TrainSemiOptions, set_dir: Place, manifest: Manifest, device: torch.device, table: Path, *, streamed: bool
) -> Samples:
    unlabeled = (open_split if streamed else load_split)(set_dir, UNLABELED, manifest)
    by_id = np.argsort(unlabeled.ids)  # the order of the pseudo-labels
    wanted = unlabeled.ids[by_id]
    if table.is_file():
        ids, found = wanted, load_published_pseudo_labels(table, wanted)
        confident = np.ones(len(ids), bool)
    else:
        ids, found, confidence = load_pseudo_labels(table)
        confident = confidence >= options.confidence_threshold
    if not np.array_equal(ids, wanted):
        raise UserError(
            f"{table} labels other images than the unlabeled part of {set_dir}: run gen_pseudolabels for it"
        )
    if found.size and not 0 <= found.min() <= found.max() < manifest.num_classes:
        raise UserError(f"{table} has labels outside 0..{manifest.num_classes - 1}: write them again")
    labels, kept = np.empty_like(found), np.empty_like(confident)
    labels[by_id], kept[by_id] = found, confident
    images = unlabeled.images.only(kept) if streamed else unlabeled.images[kept]
    return _samples(unlabeled.ids[kept], images, labels[kept], options.unlabeled_weight, device)
