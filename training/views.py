"""Strong augmentation of whole batches: random resized crops, flips, colours, grayscale, blur (Chen et al. 2020a, A).

As in training/augmentation.py every choice is drawn for all ranks and cut to a rank's part.
Images are float in [0, 1].
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.training.augmentation import Choices, constants

CROP_AREA = (0.2, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
JITTER = 0.4
"""Brightness, contrast and saturation are scaled by 0.6 to 1.4."""
HUE = 0.1
JITTER_PROBABILITY = 0.8
GRAY_PROBABILITY = 0.2
BLUR_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)
MIN_BLURRED_SIZE = 64
"""Pixels a side from which on images are blurred: smaller ones are coarse already, and their recipes leave it out."""
GRAY_WEIGHTS = (0.2989, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class ViewChoices(Choices):
    """(N,) each.

    top, left, height, width: the crop in pixels; flip, gray: whether; brightness, contrast, saturation: factors;
    hue: turn in -0.5..0.5. Where colours stay, factors are 1 and the turn is 0. blur: sigma in pixels, 0 for none
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    gray: Tensor
    blur: Tensor


def draw_view(num_images: int, *, height: int, width: int, flip: bool, generator: torch.Generator) -> ViewChoices:
    """Choices for the images. A crop that would leave the image in one direction is cut there, not drawn again."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    area = uniform(*CROP_AREA) * height * width
    ratio = uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])).exp()
    crop_height = (area / ratio).sqrt().round().clamp(1, height)
    crop_width = (area * ratio).sqrt().round().clamp(1, width)
    is_blurred = torch.tensor(_are_blurred(height, width))
    jittered = uniform(0, 1) < JITTER_PROBABILITY

    def factor() -> Tensor:
        return torch.where(jittered, uniform(1 - JITTER, 1 + JITTER), 1.0)

    return ViewChoices(
        top=(uniform(0, 1) * (height - crop_height + 1)).floor(),
        left=(uniform(0, 1) * (width - crop_width + 1)).floor(),
        height=crop_height,
        width=crop_width,
        flip=(uniform(0, 1) < 0.5) & flip,
        brightness=factor(),
        contrast=factor(),
        saturation=factor(),
        hue=torch.where(jittered, uniform(-HUE, HUE), 0.0),
        gray=uniform(0, 1) < GRAY_PROBABILITY,
        blur=torch.where((uniform(0, 1) < BLUR_PROBABILITY) & is_blurred, uniform(*BLUR_SIGMA), 0.0),
    )


def view(images: Tensor, choices: ViewChoices) -> Tensor:
    """(N, C, H, W) images as the choices show them; hue, saturation and gray concern three channels only."""
    images = resized_crop(images, choices)
    images = (images * _column(choices.brightness, images)).clamp(0, 1)
    mean = grayscale(images).mean(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    images = _blend(images, mean, choices.contrast)
    if images.shape[1] == 3:
        images = _blend(images, grayscale(images), choices.saturation)
        images = turn_hue(images, choices.hue)
        images = torch.where(_column(choices.gray, images), grayscale(images), images)
    return blurred(images, choices.blur) if _are_blurred(*images.shape[2:]) else images


def _are_blurred(height: int, width: int) -> bool:
    return min(height, width) >= MIN_BLURRED_SIZE


def resized_crop(images: Tensor, choices: ViewChoices) -> Tensor:
    """Cut each image's crop, stretch it to the whole by bilinear interpolation, mirror where chosen."""
    num_images, _, height, width = images.shape
    rows = _places(choices.top, choices.height, height, images.device)  # (N, H)
    columns = _places(choices.left, choices.width, width, images.device)  # (N, W)
    columns = torch.where(choices.flip.to(images.device)[:, None], columns.flip(1), columns)
    # grid_sample counts from -1 at the left edge of the first pixel to 1 at the right edge of the last.
    x = ((2 * columns + 1) / width - 1)[:, None, :].expand(num_images, height, width)
    y = ((2 * rows + 1) / height - 1)[:, :, None].expand(num_images, height, width)
    return F.grid_sample(images, torch.stack([x, y], dim=3), padding_mode="border", align_corners=False)


def _places(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """(N, size) coordinates within each crop of the pixels of the stretched image; never between it and its outside."""
    start, length = start.to(device)[:, None], length.to(device)[:, None]  # (N, 1)
    inside = (torch.arange(size, device=device) + 0.5) * length / size - 0.5  # (N, size)
    return start + torch.minimum(inside.clamp(min=0), length - 1)


def grayscale(images: Tensor) -> Tensor:
    """(N, 1, H, W) brightness as the eye weighs the colours; of one channel itself."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    return (images * constants(GRAY_WEIGHTS, images.device)).sum(dim=1, keepdim=True)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (N, 3, H, W) images by turns (N,) of the full circle; saturation and value stay."""
    value, low = images.amax(dim=1), images.amin(dim=1)  # (N, H, W)
    chroma = value - low
    red, green, blue = images.unbind(dim=1)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = sixths + 6 * turns.to(images.device)[:, None, None]
    # A channel is the value less the chroma, as far as the hue is from the channel's own (red 0, green 2, blue 4).
    distance = (sixths[:, None] + constants((5.0, 3.0, 1.0), images.device)) % 6  # (N, 3, H, W)
    share = torch.minimum(distance, 4 - distance).clamp(0, 1)
    return value[:, None] - chroma[:, None] * share


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (N, C, H, W) images, each by its own sigma (N,) in pixels, 0 for none.

    The kernel is about a tenth of the height (Chen et al. 2020a); beyond the border images are mirrored.
    """
    num_images, channels, height, width = images.shape
    reach = height // 20
    sigma = sigma.to(images.device)[:, None]  # (N, 1)
    steps = torch.arange(-reach, reach + 1, device=images.device)  # (k,)
    # At sigma 0 all but the middle one are 0.
    kernel = torch.where(sigma > 0, torch.exp(-0.5 * (steps / sigma.clamp(min=1e-6)) ** 2), (steps == 0).float())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)  # (N * C, k)
    # Each channel of each image is a group of its own.
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    flat = padded.reshape(1, num_images * channels, height + 2 * reach, width + 2 * reach)
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=num_images * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=num_images * channels)
    return flat.view(num_images, channels, height, width)


def _blend(images: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    factors = _column(factors, images)
    return (factors * images + (1 - factors) * other).clamp(0, 1)


def _column(choices: Tensor, images: Tensor) -> Tensor:
    return choices.to(images.device).view(-1, 1, 1, 1)
