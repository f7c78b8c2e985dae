"""Exact sums over the pixels of images, from which the means and standard deviations of channels follow."""

from functools import cache

import numpy as np

MOST_PIXELS = 256
"""Added up in float32: sums of so many squares of 255 stay below 2^24, up to which it has every integer."""
BYTES_AT_ONCE = 2**18
"""Of pixels, so that what is computed of them stays in a processor's cache."""


def pixel_sums(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of pixel values (0 to 255), each (N, channels) int64.

    images: (N, height, width, channels) uint8
    """
    num_images, height, width, channels = images.shape
    found = np.zeros((2, num_images, channels), np.int64)
    if not height * width:
        return found[0], found[1]
    together = _pixels_together(height * width)
    # A product of matrices adds up the values of each channel several times faster than sums over strided ones.
    of_channels = np.tile(np.eye(channels, dtype=np.float32), (together, 1))  # (together * channels, channels)
    at_once = max(1, BYTES_AT_ONCE // (height * width * channels))
    for first in range(0, num_images, at_once):
        part = slice(first, min(first + at_once, num_images))
        pixels = images[part].reshape(-1, together * channels).astype(np.float32)
        for sums, values in zip(found, (pixels, np.square(pixels)), strict=True):
            of_parts = (values @ of_channels).astype(np.int64)
            sums[part] = of_parts.reshape(part.stop - part.start, -1, channels).sum(axis=1)
    return found[0], found[1]


@cache
def _pixels_together(num_pixels: int) -> int:
    """The largest divisor that is at most MOST_PIXELS."""
    return next(size for size in range(MOST_PIXELS, 0, -1) if num_pixels % size == 0)
