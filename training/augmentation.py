"""Whole batches of images as tensors: normalise, crop, flip, rotate.

Every random choice is drawn for the global batch and then cut to a rank's
part, so that what happens to an image does not depend on the world size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images - mean) / std


def measured_normalisation(images: Tensor) -> Normalisation:
    """Mean and standard deviation of (N, C, H, W) uint8 images over all pixels, in float64."""
    pixels = images.double() / 255
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
    # A constant channel carries nothing; dividing by 1 keeps it finite.
    return Normalisation(tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1.0).tolist()))


@dataclass(frozen=True)
class CropFlip:
    """Random choices of one batch: (N,) offsets of the crop in the padded image, (N,) flips."""

    top: Tensor
    left: Tensor
    flip: Tensor

    def part(self, selection: slice) -> "CropFlip":
        return CropFlip(self.top[selection], self.left[selection], self.flip[selection])


def crop_padding(height: int) -> int:
    """Padding of the random crop: 4 pixels for 32, in proportion for other sizes."""
    return max(1, height // 8)


def draw_crop_flip(num_images: int, *, height: int, flip: bool, generator: torch.Generator) -> CropFlip:
    """Choices for a batch; with flip=False no image is mirrored."""
    span = 2 * crop_padding(height) + 1
    offsets = torch.randint(span, (2, num_images), generator=generator)
    mirrored = torch.rand(num_images, generator=generator) < 0.5
    return CropFlip(offsets[0], offsets[1], mirrored & flip)


def crop_and_flip(images: Tensor, choices: CropFlip) -> Tensor:
    """Zero-pad (N, C, H, W) images, cut H x W at the chosen offsets, mirror where chosen."""
    num_images, _, height, width = images.shape
    padding = crop_padding(height)
    padded = F.pad(images, (padding,) * 4)  # (N, C, H + 2p, W + 2p)
    device = images.device
    rows = choices.top.to(device)[:, None] + torch.arange(height, device=device)  # (N, H)
    columns = torch.arange(width, device=device).expand(num_images, width)  # (N, W)
    columns = torch.where(choices.flip.to(device)[:, None], width - 1 - columns, columns)
    columns = columns + choices.left.to(device)[:, None]
    index = torch.arange(num_images, device=device)[:, None, None]
    cropped = padded[index, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return cropped.permute(0, 3, 1, 2)  # (N, C, H, W), channels last in memory


def rotate_quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate each of (N, C, S, S) square images by its number of quarter turns (N,) in 0..3, counter-clockwise."""
    rotated = images.clone()
    for quarter in (1, 2, 3):
        chosen = (turns == quarter).to(images.device)
        rotated[chosen] = torch.rot90(images[chosen], quarter, dims=(2, 3))
    return rotated
