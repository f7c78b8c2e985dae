"""Exact sums over the pixels of images, from which the means and standard deviations of channels follow."""

import numpy as np


def pixel_sums(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of pixel values (0 to 255), each (N, channels) int64.

    images: (N, height, width, channels) uint8
    """
    pixels = images.reshape(len(images), -1, images.shape[3])  # (N, height * width, channels)
    channels = [pixels[:, :, channel] for channel in range(pixels.shape[2])]
    sums = [channel.sum(axis=1, dtype=np.int64) for channel in channels]
    # 255 squared fits 16 bits, which are added up several times faster than wider ones.
    squares = [np.square(channel, dtype=np.uint16).sum(axis=1, dtype=np.int64) for channel in channels]
    return np.stack(sums, axis=1), np.stack(squares, axis=1)
