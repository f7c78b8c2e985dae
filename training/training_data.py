"""What a training learns from: the data record that batches, objectives, evaluation and events read."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from longtail.conf.base.locations import Location
from longtail.conf.datasets import dataset_facts
from longtail.conf.networks import is_timm_name
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.longtail import shot_groups
from longtail.data.manifest import Manifest
from longtail.models.timm_network import timm_normalisation
from longtail.training.augmentation import Normalisation
from longtail.training.samples import Samples, load_samples


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Samples of a training and of its held-out splits, with class counts.

    train: the labelled samples, then the pseudo-labelled or unlabeled ones
    num_labelled: length of the labelled part of train
    held_out: validation and test samples, by split; measured every --eval_every epochs
    class_counts: (C,) training samples per class, pseudo-labelled ones included
    rule_counts: (C,) class counts used by loss and rule: class_counts, or those of the labelled samples alone
    pseudo_label_counts: (C,) the pseudo-labelled part of class_counts; empty where labels are not used
    shot_groups: (C,) many, medium or few, by the labelled samples alone, so that pseudo-labels move no class
    horizontal_flip: whether training images are mirrored at random
    unlabeled_ratio: unlabeled per labelled samples in each step; None: all samples are shuffled together
    pseudo_label_round: 0 without pseudo-labels, 1 with those of a network that learned from labels alone, ...
    """

    train: Samples
    num_labelled: int
    held_out: dict[str, Samples]
    class_names: list[str]
    class_counts: list[int]
    rule_counts: list[int]
    pseudo_label_counts: list[int] = field(default_factory=list)
    shot_groups: list[str]
    normalisation: Normalisation
    horizontal_flip: bool
    unlabeled_ratio: float | None = None
    pseudo_label_round: int = 0

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)


def labelled_data(
    options: RunOptions,
    train: Samples,
    labelled: Samples,
    set_dir: Location,
    manifest: Manifest,
    device: torch.device,
    *,
    rule_counts: list[int] | None = None,
) -> TrainingData:
    """Data of a training that learns the set's classes.

    train: all samples, those of `labelled` first
    rule_counts: class counts used by loss and rule; by default those of train
    """
    counts = train.class_counts(manifest.num_classes)
    return TrainingData(
        train=train.to(device),
        num_labelled=len(labelled),
        held_out=_held_out_splits(options, set_dir, manifest, device),
        class_names=manifest.class_names,
        class_counts=counts,
        rule_counts=rule_counts or counts,
        pseudo_label_counts=[every - own for every, own in zip(counts, manifest.counts[TRAIN], strict=True)],
        shot_groups=_shot_groups(manifest.counts[TRAIN], options),
        normalisation=set_normalisation(options, manifest),
        horizontal_flip=is_mirrored(options),
    )


def self_supervised_data(
    options: RunOptions,
    set_dir: Location,
    manifest: Manifest,
    device: torch.device,
    *,
    class_names: list[str],
    class_counts: list[int],
    is_evaluated: bool,
) -> TrainingData:
    """Data of a pre-training: the labelled part's images without their labels.

    class_names, class_counts: of what it predicts instead; is_evaluated: whether that can be measured on held-out data
    """
    images = load_samples(options, set_dir, TRAIN, manifest)
    # All of class 0, so that a training which should ignore the labels cannot have learned them.
    images = replace(images, labels=torch.zeros_like(images.labels))
    return TrainingData(
        train=images.to(device),
        num_labelled=0,
        held_out=_held_out_splits(options, set_dir, manifest, device) if is_evaluated else {},
        class_names=class_names,
        class_counts=class_counts,
        rule_counts=class_counts,
        shot_groups=_shot_groups(class_counts, options),
        normalisation=set_normalisation(options, manifest),
        horizontal_flip=is_mirrored(options),
    )


def _held_out_splits(
    options: RunOptions, set_dir: Location, manifest: Manifest, device: torch.device
) -> dict[str, Samples]:
    present = [split for split in (VAL, TEST) if sum(manifest.counts[split])]
    return {split: load_samples(options, set_dir, split, manifest).to(device) for split in present}


def _shot_groups(labelled_counts: Sequence[int], options: RunOptions) -> list[str]:
    return list(shot_groups(labelled_counts, many_shot=options.many_shot, few_shot=options.few_shot))


def is_mirrored(options: RunOptions) -> bool:
    """Whether training images are mirrored at random (--horizontal_flip)."""
    if options.horizontal_flip == "by_dataset":
        return dataset_facts(options.dataset).horizontal_flip
    return options.horizontal_flip == "always"


def set_normalisation(options: RunOptions, manifest: Manifest) -> Normalisation:
    """How a training normalises the images of a set: as --arch or the data set has it, else by their channels' moments.

    These were measured when the set was prepared, over the labelled images.
    """
    if is_timm_name(options.arch):
        return Normalisation(*timm_normalisation(options.arch, manifest.image_shape[2]))
    facts = dataset_facts(options.dataset)
    if facts.mean is not None and facts.std is not None:
        return Normalisation(facts.mean, facts.std)
    # A constant channel carries no information; dividing by 1 keeps it finite.
    return Normalisation(tuple(manifest.channel_mean), tuple(std or 1.0 for std in manifest.channel_std))
