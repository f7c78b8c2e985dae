"""RandAugment of whole batches, with the operations and ranges of FixMatch (Sohn et al. 2020, appendix).

Each image is given K operations one after the other (Cubuk et al. 2020), each drawn from all of them, as is how much
of it. Images are float in [0, 1]; what was outside of a turned, sheared or moved image is black.

As in training/augmentation.py every choice is drawn for all ranks and cut to a rank's part. Which operation an image is
given stays known to the host: images of the same one are taken together, and a GPU need not be asked for their number.
The price is a copy of their order, a few hundred bytes, to the device in each step.
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
"""Of brightness, colour, contrast and sharpness: 1 would leave the image, 0 nothing of it."""
BITS = (4, 8)
"""That posterize leaves of 8: 4 to 7."""
DEGREES = (-30.0, 30.0)
SHEAR = (-0.3, 0.3)
"""Pixels a pixel."""
SHIFT = (-0.3, 0.3)
"""Shares of the image's side."""


@dataclass(frozen=True)
class Operations(Choices):
    """operation: (N, K) int64 places in OPERATIONS, on the CPU; amount: (N, K) in [0, 1), from low to high."""

    operation: Tensor
    amount: Tensor

    def to(self, device: torch.device) -> "Operations":
        return Operations(self.operation, self.amount.to(device))


def draw_operations(num_images: int, *, num_operations: int, generator: torch.Generator) -> Operations:
    """K = num_operations for each image, which may be the same one twice."""
    size = (num_images, num_operations)
    return Operations(
        torch.randint(len(OPERATIONS), size, generator=generator),
        torch.rand(size, generator=generator),
    )


def randaugment(images: Tensor, choices: Operations) -> Tensor:
    """(N, C, H, W) images after their operations."""
    for operation, amount in zip(choices.operation.unbind(1), choices.amount.unbind(1), strict=True):
        order = operation.argsort()
        sizes = operation.bincount(minlength=len(OPERATIONS)).tolist()
        order = order.to(images.device, non_blocking=True)
        sorted_parts = zip(
            OPERATIONS.values(), images[order].split(sizes), amount.view(-1, 1, 1, 1)[order].split(sizes), strict=True
        )
        changed = torch.cat([change(some, of_these) if len(some) else some for change, some, of_these in sorted_parts])
        images = torch.empty_like(changed).index_copy_(0, order, changed)
    return images


def _between(bounds: tuple[float, float], amount: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * amount


def _identity(images: Tensor, amount: Tensor) -> Tensor:
    return images


def _autocontrast(images: Tensor, amount: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import autocontrast  # a second to import: only who needs it waits

    return _each_channel(autocontrast, images)


def _equalize(images: Tensor, amount: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    return _each_channel(equalize, images)


def _sharpness(images: Tensor, amount: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import adjust_sharpness

    return _towards(_each_channel(partial(adjust_sharpness, sharpness_factor=0.0), images), images, amount)


def _each_channel(change: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """torchvision knows one channel and three: each one is an image of its own."""
    return change(images.flatten(0, 1)[:, None]).view(images.shape)


def _brightness(images: Tensor, amount: Tensor) -> Tensor:
    return _between(FACTOR, amount) * images


def _color(images: Tensor, amount: Tensor) -> Tensor:
    return _towards(grayscale(images), images, amount)


def _contrast(images: Tensor, amount: Tensor) -> Tensor:
    return _towards(grayscale(images).mean(dim=(1, 2, 3), keepdim=True), images, amount)


def _towards(other: Tensor, images: Tensor, amount: Tensor) -> Tensor:
    factor = _between(FACTOR, amount)
    return factor * images + (1 - factor) * other


def _posterize(images: Tensor, amount: Tensor) -> Tensor:
    step = 2.0 ** (8 - _between(BITS, amount).floor())
    return ((255 * images).round() / step).floor() * step / 255


def _solarize(images: Tensor, amount: Tensor) -> Tensor:
    return torch.where((255 * images).round() < 256 * amount, images, 1 - images)


def _rotate(images: Tensor, amount: Tensor) -> Tensor:
    height, width = images.shape[2:]
    angle = math.pi / 180 * _between(DEGREES, amount)
    cosine, sine = angle.cos(), angle.sin()
    middle_x, middle_y = width / 2, height / 2
    return _taken_from(
        images,
        lambda x, y: (
            cosine * (x - middle_x) - sine * (y - middle_y) + middle_x,
            sine * (x - middle_x) + cosine * (y - middle_y) + middle_y,
        ),
    )


def _shear_x(images: Tensor, amount: Tensor) -> Tensor:
    return _taken_from(images, lambda x, y: (x + _between(SHEAR, amount) * y, y))


def _shear_y(images: Tensor, amount: Tensor) -> Tensor:
    return _taken_from(images, lambda x, y: (x, y + _between(SHEAR, amount) * x))


def _translate_x(images: Tensor, amount: Tensor) -> Tensor:
    return _taken_from(images, lambda x, y: (x + images.shape[3] * _between(SHIFT, amount), y))


def _translate_y(images: Tensor, amount: Tensor) -> Tensor:
    return _taken_from(images, lambda x, y: (x, y + images.shape[2] * _between(SHIFT, amount)))


def _taken_from(images: Tensor, source: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Each pixel at (x, y) from the one nearest to source(x, y).

    Coordinates are (n, 1, H, W), in pixels from the left and upper edge; the middle of the first pixel is at 0.5.
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
"""Each makes of images (n, C, H, W) and amounts (n, 1, 1, 1) in [0, 1) the images (n, C, H, W)."""
