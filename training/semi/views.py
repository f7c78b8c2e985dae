"""The views of FixMatch (Sohn et al. 2020): a weak one and one or more strong ones of every image.

Weak: random crop and flip, mirrored beyond the edges. Strong: the same drawn anew, RandAugment
(training/randaugment.py) and a square cut out.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from longtail.training.augmentation import Choices, CropFlip, crop_and_flip, draw_crop_flip
from longtail.training.randaugment import Operations, draw_operations, randaugment
from longtail.training.training_data import TrainingData


@dataclass(frozen=True)
class StrongChoices(Choices):
    """Crop and flip, operations, and (N,) row and column of the centre of the square that is cut out."""

    crop_flip: CropFlip
    operations: Operations
    row: Tensor
    column: Tensor


@dataclass(frozen=True)
class WeakAndStrong(Choices):
    """Choices of an image's views, all but one of which are strong.

    uniform: (N,) in [0, 1), for methods that draw which images count
    """

    weak: CropFlip
    strong: tuple[StrongChoices, ...]
    uniform: Tensor


def draw_weak_and_strong(
    data: TrainingData, num_samples: int, generator: torch.Generator, *, num_strong_views: int, num_operations: int
) -> WeakAndStrong:
    """Draw the choices of an epoch."""
    _, height, width = data.train.image_shape
    crop_flip = partial(draw_crop_flip, num_samples, height=height, flip=data.horizontal_flip, generator=generator)

    def strong() -> StrongChoices:
        return StrongChoices(
            crop_flip(),
            draw_operations(num_samples, num_operations=num_operations, generator=generator),
            torch.randint(height, (num_samples,), generator=generator),
            torch.randint(width, (num_samples,), generator=generator),
        )

    weak = crop_flip()
    return WeakAndStrong(
        weak, tuple(strong() for _ in range(num_strong_views)), torch.rand(num_samples, generator=generator)
    )


def weak_and_strong(data: TrainingData, images: Tensor, choices: WeakAndStrong) -> Tensor:
    """(V n, C, H, W) network inputs of images (n, C, H, W) uint8: all weak views, then all strong ones.

    One batch for the batch norm.
    """
    weak = data.normalisation.apply(crop_and_flip(images, choices.weak, mirrored=True))
    return torch.cat([weak, *(_strong_view(data, images, strong) for strong in choices.strong)])


def _strong_view(data: TrainingData, images: Tensor, choices: StrongChoices) -> Tensor:
    changed = randaugment(crop_and_flip(images, choices.crop_flip, mirrored=True).float() / 255, choices.operations)
    return without_square(data.normalisation.apply_to_unit(changed), choices.row, choices.column)


def without_square(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Fill a square of half the height, centred at row and column (N,), with the mean colour (0).

    images: (N, C, H, W), normalised
    """
    height, width = images.shape[2:]

    def within(middle: Tensor, size: int) -> Tensor:
        distance = torch.arange(size, device=images.device) - middle.to(images.device)[:, None]  # (N, size)
        return (distance >= -(height // 4)) & (distance < height // 4)

    cut = within(row, height)[:, None, :, None] & within(column, width)[:, None, None, :]  # (N, 1, H, W)
    return images.masked_fill(cut, 0)
