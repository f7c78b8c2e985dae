"""RandAugment of whole batches, with the operations and ranges of FixMatch (Sohn et al. 2020, appendix).

K operations are applied to each image in turn (Cubuk et al. 2020); operations and magnitudes are drawn uniformly.
Images are float in [0, 1]. Geometric operations fill pixels from outside the image with black.

As in training/augmentation.py, random choices are drawn for the whole batch and sliced to each rank's share. The
operations stay on the CPU: images with the same operation are processed together, and the size of each group is known
without a GPU synchronisation. The cost is a copy of their order, a few hundred bytes, to the device in each step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.training.augmentation import Choices
from longtail.training.views import grayscale

FACTOR = (0.05, 0.95)
"""Range of the factor of brightness, colour, contrast and sharpness; 1 leaves the image unchanged."""
BITS = (4, 8)
"""Range of the bits per channel that posterize keeps, upper bound excluded: 4 to 7 of 8."""
DEGREES = (-30.0, 30.0)
SHEAR = (-0.3, 0.3)
"""Range of the shear: horizontal pixels per vertical pixel, or the reverse."""
SHIFT = (-0.3, 0.3)
"""Range of the translation, as a fraction of the width or height."""


@dataclass(frozen=True)
class Operations(Choices):
    """Operations drawn for N images.

    operation: (N, K) int64 indices into OPERATIONS, on the CPU
    amount: (N, K) magnitudes in [0, 1), from the lower to the upper bound of each operation's range
    """

    operation: Tensor
    amount: Tensor

    def to(self, device: torch.device) -> "Operations":
        return Operations(self.operation, self.amount.to(device))


def draw_operations(num_images: int, *, num_operations: int, generator: torch.Generator) -> Operations:
    """Draw K = num_operations operations per image, with replacement."""
    size = (num_images, num_operations)
    return Operations(
        torch.randint(len(OPERATIONS), size, generator=generator),
        torch.rand(size, generator=generator),
    )


def randaugment(images: Tensor, choices: Operations) -> Tensor:
    """Apply the drawn operations to (N, C, H, W) images."""
    for operation, amount in zip(choices.operation.unbind(1), choices.amount.unbind(1), strict=True):
        order = operation.argsort()
        sizes = operation.bincount(minlength=len(OPERATIONS)).tolist()
        order = order.to(images.device, non_blocking=True)
        sorted_parts = zip(
            OPERATIONS.values(), images[order].split(sizes), amount.view(-1, 1, 1, 1)[order].split(sizes), strict=True
        )
        changed = torch.cat([apply(part, amounts) if len(part) else part for apply, part, amounts in sorted_parts])
        images = torch.empty_like(changed).index_copy_(0, order, changed)
    return images


def _interpolate(bounds: tuple[float, float], amount: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * amount


def _identity(images: Tensor, amount: Tensor) -> Tensor:
    return images


def _autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import autocontrast  # slow to import (1 s)

    return _each_channel(autocontrast, images)


def _equalize(images: Tensor, amount: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    return _each_channel(equalize, images)


def _sharpness(images: Tensor, amount: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import adjust_sharpness

    return _blend(_each_channel(partial(adjust_sharpness, sharpness_factor=0.0), images), images, amount)


def _each_channel(change: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a function to each channel as an image of its own: torchvision accepts only one channel or three."""
    return change(images.flatten(0, 1)[:, None]).view(images.shape)


def _brightness(images: Tensor, amount: Tensor) -> Tensor:
    return _interpolate(FACTOR, amount) * images


def _color(images: Tensor, amount: Tensor) -> Tensor:
    return _blend(grayscale(images), images, amount)


def _contrast(images: Tensor, amount: Tensor) -> Tensor:
    return _blend(grayscale(images).mean(dim=(1, 2, 3), keepdim=True), images, amount)


def _blend(other: Tensor, images: Tensor, amount: Tensor) -> Tensor:
    factor = _interpolate(FACTOR, amount)
    return factor * images + (1 - factor) * other


def _posterize(images: Tensor, amount: Tensor) -> Tensor:
    step = 2.0 ** (8 - _interpolate(BITS, amount).floor())
    return ((255 * images).round() / step).floor() * step / 255


def _solarize(images: Tensor, amount: Tensor) -> Tensor:
    return torch.where((255 * images).round() < 256 * amount, images, 1 - images)


def _rotate(images: Tensor, amount: Tensor) -> Tensor:
    height, width = images.shape[2:]
    angle = math.pi / 180 * _interpolate(DEGREES, amount)
    cosine, sine = angle.cos(), angle.sin()
    center_x, center_y = width / 2, height / 2
    return _resample(
        images,
        lambda x, y: (
            cosine * (x - center_x) - sine * (y - center_y) + center_x,
            sine * (x - center_x) + cosine * (y - center_y) + center_y,
        ),
    )


def _shear_x(images: Tensor, amount: Tensor) -> Tensor:
    return _resample(images, lambda x, y: (x + _interpolate(SHEAR, amount) * y, y))


def _shear_y(images: Tensor, amount: Tensor) -> Tensor:
    return _resample(images, lambda x, y: (x, y + _interpolate(SHEAR, amount) * x))


def _translate_x(images: Tensor, amount: Tensor) -> Tensor:
    return _resample(images, lambda x, y: (x + images.shape[3] * _interpolate(SHIFT, amount), y))


def _translate_y(images: Tensor, amount: Tensor) -> Tensor:
    return _resample(images, lambda x, y: (x, y + images.shape[2] * _interpolate(SHIFT, amount)))


def _resample(images: Tensor, source: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Resample (n, C, H, W) images: the pixel at (x, y) is taken from the nearest pixel to source(x, y).

    Coordinates are (n, 1, H, W), in pixels from the left and upper edge; the centre of the first pixel is at 0.5.
    """
    num_images, _, height, width = images.shape
    x = (torch.arange(width, device=images.device) + 0.5).expand(num_images, 1, height, width)
    y = (torch.arange(height, device=images.device) + 0.5)[:, None].expand(num_images, 1, height, width)
    from_x, from_y = source(x, y)
    grid = torch.stack([2 * from_x / width - 1, 2 * from_y / height - 1], dim=-1).squeeze(1)  # (n, H, W, 2)
    return F.grid_sample(images, grid, mode="nearest", align_corners=False)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": _autocontrast,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "equalize": _equalize,
    "identity": _identity,
    "posterize": _posterize,
    "rotate": _rotate,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "solarize": _solarize,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""Operations by name: (n, C, H, W) images and (n, 1, 1, 1) amounts in [0, 1) to (n, C, H, W) images."""
