"""Augmentation of whole batches of images as tensors: normalise, crop, flip, rotate.

The random choices of an epoch are drawn at once for all ranks, moved to the device, and then selected for a rank's part
of a step: what happens to an image does not depend on the world size, and no step waits for a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.training.per_sample import PerSample


@cache
def constants(values: Sequence[float], device: torch.device) -> Tensor:
    """(1, C, 1, 1) float32, one value per channel.

    Kept, as a new copy would make the device wait in every step; and a CUDA graph reads it as long as it is replayed.
    """
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
        return torch.tensor(values, device=device).view(1, -1, 1, 1)


class Choices(PerSample):
    """Random choices, one row per sample."""


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to float32 of about zero mean and unit variance."""
        return self.apply_to_unit(images.float() / 255)

    def apply_to_unit(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 in [0, 1] to the same."""
        return (images - constants(self.mean, images.device)) / constants(self.std, images.device)


@dataclass(frozen=True)
class CropFlip(Choices):
    """(N,) offsets of the crop in the padded image, (N,) flips."""

    top: Tensor
    left: Tensor
    flip: Tensor


def crop_padding(height: int) -> int:
    """Padding of the random crop: 4 pixels for 32, in proportion for other sizes."""
    return max(1, height // 8)


def draw_crop_flip(num_images: int, *, height: int, flip: bool, generator: torch.Generator) -> CropFlip:
    """Draw a crop and a flip per image; with flip=False no image is mirrored."""
    span = 2 * crop_padding(height) + 1
    offsets = torch.randint(span, (2, num_images), generator=generator)
    mirrored = torch.rand(num_images, generator=generator) < 0.5
    return CropFlip(offsets[0], offsets[1], mirrored & flip)


def crop_and_flip(images: Tensor, choices: CropFlip, *, mirrored: bool = False) -> Tensor:
    """Pad (N, C, H, W) images with zeros or by reflection (mirrored), crop to H x W at the offsets, and flip."""
    num_images, _, height, width = images.shape
    padding = crop_padding(height)
    device = images.device
    rows = choices.top.to(device)[:, None] + torch.arange(height, device=device)  # (N, H)
    columns = torch.arange(width, device=device).expand(num_images, width)  # (N, W)
    columns = torch.where(choices.flip.to(device)[:, None], width - 1 - columns, columns)
    columns = columns + choices.left.to(device)[:, None]
    if mirrored:
        padded, rows, columns = images, _mirrored(rows - padding, height), _mirrored(columns - padding, width)
    else:
        padded = F.pad(images, (padding,) * 4)  # (N, C, H + 2p, W + 2p)
    index = torch.arange(num_images, device=device)[:, None, None]
    cropped = padded[index, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return cropped.permute(0, 3, 1, 2)  # (N, C, H, W), channels last in memory


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Reflect positions up to size - 1 outside into 0..size - 1; the edge itself is not repeated."""
    return size - 1 - (size - 1 - positions.abs()).abs()


def rotate_quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate each of (N, C, S, S) square images by its number of quarter turns (N,) in 0..3, counter-clockwise."""
    turns = turns.to(images.device).view(-1, 1, 1, 1)
    # All turns of all images: selecting those of one turn would make a GPU wait for their number.
    for quarter in (1, 2, 3):
        images = torch.where(turns == quarter, torch.rot90(images, quarter, dims=(2, 3)), images)
    return images
