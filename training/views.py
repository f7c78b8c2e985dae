"""Strong augmentation of whole batches: random resized crops, flips, colours, grayscale, blur (Chen et al. 2020a, A).

As in training/augmentation.py, random choices are drawn for the whole batch and sliced to each rank's share.
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
"""Brightness, contrast and saturation are scaled by a factor between 0.6 and 1.4."""
HUE = 0.1
JITTER_PROBABILITY = 0.8
GRAY_PROBABILITY = 0.2
BLUR_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)
MIN_BLURRED_SIZE = 64
"""Smallest height and width of images that are blurred; recipes for smaller images leave blur out."""
GRAY_WEIGHTS = (0.2989, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class ViewChoices(Choices):
    """Random choices for N images; every field has shape (N,).

    top, left, height, width: crop in pixels
    flip, gray: whether to mirror the image, whether to make it gray
    brightness, contrast, saturation: factors; 1 for no change
    hue: shift as a fraction of the colour circle, in [-0.5, 0.5]; 0 for no change
    blur: sigma in pixels; 0 for none
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
    """Draw choices for num_images images. A crop that is larger than the image is clipped to it, not drawn again."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    area = uniform(*CROP_AREA) * height * width
    ratio = uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])).exp()
    crop_height = (area / ratio).sqrt().round().clamp(1, height)
    crop_width = (area * ratio).sqrt().round().clamp(1, width)
    is_blurred = torch.tensor(_is_blurred(height, width))
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
    """Apply the choices to (N, C, H, W) images; hue, saturation and gray apply to three channels only."""
    images = resized_crop(images, choices)
    images = (images * _per_image(choices.brightness, images)).clamp(0, 1)
    mean = grayscale(images).mean(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    images = _blend(images, mean, choices.contrast)
    if images.shape[1] == 3:
        images = _blend(images, grayscale(images), choices.saturation)
        images = shift_hue(images, choices.hue)
        images = torch.where(_per_image(choices.gray, images), grayscale(images), images)
    return gaussian_blur(images, choices.blur) if _is_blurred(*images.shape[2:]) else images


def _is_blurred(height: int, width: int) -> bool:
    return min(height, width) >= MIN_BLURRED_SIZE


def resized_crop(images: Tensor, choices: ViewChoices) -> Tensor:
    """Crop each image, resize the crop to (H, W) by bilinear interpolation, and mirror it where flip is set."""
    num_images, _, height, width = images.shape
    rows = _source_coordinates(choices.top, choices.height, height, images.device)  # (N, H)
    columns = _source_coordinates(choices.left, choices.width, width, images.device)  # (N, W)
    columns = torch.where(choices.flip.to(images.device)[:, None], columns.flip(1), columns)
    # grid_sample counts from -1 at the left edge of the first pixel to 1 at the right edge of the last.
    x = ((2 * columns + 1) / width - 1)[:, None, :].expand(num_images, height, width)
    y = ((2 * rows + 1) / height - 1)[:, :, None].expand(num_images, height, width)
    return F.grid_sample(images, torch.stack([x, y], dim=3), padding_mode="border", align_corners=False)


def _source_coordinates(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """(N, size) source coordinate of each output pixel, clamped to the crop so that no pixel outside it is used."""
    start, length = start.to(device)[:, None], length.to(device)[:, None]  # (N, 1)
    inside = (torch.arange(size, device=device) + 0.5) * length / size - 0.5  # (N, size)
    return start + torch.minimum(inside.clamp(min=0), length - 1)


def grayscale(images: Tensor) -> Tensor:
    """Convert (N, C, H, W) images to (N, 1, H, W) luma (ITU-R 601); other than three channels are averaged."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    return (images * constants(GRAY_WEIGHTS, images.device)).sum(dim=1, keepdim=True)


def shift_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift the hue of (N, 3, H, W) images by shifts (N,), fractions of the circle; keep saturation and value."""
    value, low = images.amax(dim=1), images.amin(dim=1)  # (N, H, W)
    chroma = value - low
    red, green, blue = images.unbind(dim=1)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = sixths + 6 * shifts.to(images.device)[:, None, None]
    # Channel = value - chroma * share; the share grows with the distance of the hue from the channel's own hue (red 0,
    # green 2, blue 4).
    distance = (sixths[:, None] + constants((5.0, 3.0, 1.0), images.device)) % 6  # (N, 3, H, W)
    share = torch.minimum(distance, 4 - distance).clamp(0, 1)
    return value[:, None] - chroma[:, None] * share


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur (N, C, H, W) images, each with its own sigma (N,) in pixels; 0 for no blur.

    The kernel size is about a tenth of the height (Chen et al. 2020a); the padding is by reflection.
    """
    num_images, channels, height, width = images.shape
    radius = height // 20
    sigma = sigma.to(images.device)[:, None]  # (N, 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)  # (k,)
    # At sigma 0 the kernel is 1 in the middle and 0 elsewhere.
    kernel = torch.where(sigma > 0, torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-6)) ** 2), (offsets == 0).float())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)  # (N * C, k)
    # A grouped convolution: one group per channel of each image.
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    flat = padded.reshape(1, num_images * channels, height + 2 * radius, width + 2 * radius)
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=num_images * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=num_images * channels)
    return flat.view(num_images, channels, height, width)


def _blend(images: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    factors = _per_image(factors, images)
    return (factors * images + (1 - factors) * other).clamp(0, 1)


def _per_image(choices: Tensor, images: Tensor) -> Tensor:
    return choices.to(images.device).view(-1, 1, 1, 1)
