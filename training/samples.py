"""The samples of a training: images of a split with their labels, weights and, if pseudo-labelled, probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.conf.base.locations import Location
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import NO_CLASS
from longtail.data.loader import load_split
from longtail.data.manifest import Manifest
from longtail.data.stream import StreamedImages, open_split
from longtail.training.images import image_tensor, move_if_fits


@dataclass(frozen=True)
class Samples:
    """Images of a split, in memory or on disk (training/images.py), and what is known of them.

    ids: (N,) int64, on the CPU; images: (N, C, H, W) uint8, or on disk; labels: (N,) int64
    weights: (N,) float32 weight of each sample's loss: 1, or omega for a pseudo-labelled one
    probabilities: (N, C) float32 soft targets, or None; labels are then the most probable classes
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
        else:
            _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def targets(self) -> Tensor:
        """(N,) classes, or (N, C) probabilities."""
        return self.labels if self.probabilities is None else self.probabilities

    def to(self, device: torch.device) -> "Samples":
        """Move everything but the ids to the device; the images only if they fit there."""
        probabilities = None if self.probabilities is None else self.probabilities.to(device)
        return Samples(
            self.ids, move_if_fits(self.images, device), self.labels.to(device), self.weights.to(device), probabilities
        )

    def class_counts(self, num_classes: int) -> list[int]:
        """(C,) samples per class; a soft target counts for its most probable class, NO_CLASS for none."""
        return torch.bincount(self.labels[self.labels != NO_CLASS], minlength=num_classes).tolist()


def new_samples(ids: np.ndarray, images: np.ndarray | StreamedImages, labels: np.ndarray, weight: float) -> Samples:
    """Samples on the CPU or on disk, all with the same weight."""
    return Samples(
        torch.from_numpy(ids.copy()),
        images if isinstance(images, StreamedImages) else image_tensor(images),
        torch.from_numpy(labels),
        torch.full((len(labels),), weight),
    )


def joined(labelled: Samples, others: Samples) -> Samples:
    """Concatenate the two, labelled samples first; if the others have soft targets, the labelled get one-hot ones."""
    probabilities = None
    if others.probabilities is not None:
        certain = F.one_hot(labelled.labels, others.probabilities.shape[1]).float()
        probabilities = torch.cat([certain, others.probabilities])
    return Samples(
        torch.cat([labelled.ids, others.ids]),
        _joined_images(labelled.images, others.images),
        torch.cat([labelled.labels, others.labels]),
        torch.cat([labelled.weights, others.weights]),
        probabilities,
    )


def _joined_images(first: Tensor | StreamedImages, second: Tensor | StreamedImages) -> Tensor | StreamedImages:
    if isinstance(first, StreamedImages) and isinstance(second, StreamedImages):
        return first.followed_by(second)
    assert isinstance(first, Tensor) and isinstance(second, Tensor), "both are in memory, or neither"
    return torch.cat([first, second])


def is_streamed(options: RunOptions, manifest: Manifest, splits: Sequence[str]) -> bool:
    """Whether the decoded images of the splits together exceed --max_resident_gib, so that they stay on disk."""
    num_images = sum(manifest.num_images(split) for split in splits)
    return num_images * math.prod(manifest.image_shape) > options.max_resident_gib * 2**30


def load_samples(
    options: RunOptions, set_dir: Location, split: str, manifest: Manifest, *, streamed: bool | None = None
) -> Samples:
    """Load a labelled split to the CPU, or open it on disk; by default its size decides which."""
    streamed = is_streamed(options, manifest, (split,)) if streamed is None else streamed
    found = (open_split if streamed else load_split)(set_dir, split, manifest)
    assert found.labels is not None, "the unlabeled part is never trained on without pseudo-labels"
    return new_samples(found.ids, found.images, found.labels, 1.0)
