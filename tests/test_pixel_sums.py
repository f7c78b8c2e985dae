"""Exact sums over pixels (data/pixel_sums.py), compared with those of arbitrarily large integers."""

import numpy as np
import pytest

from longtail.data.pixel_sums import pixel_sums


def test_sums_are_exact_for_each_image_and_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 4), np.uint8)

    sums, squares = pixel_sums(images)

    for image, of_image, squares_of_image in zip(images, sums, squares, strict=True):
        for channel in range(4):
            values = [int(value) for value in image[..., channel].reshape(-1)]
            assert of_image[channel] == sum(values)
            assert squares_of_image[channel] == sum(value * value for value in values)


def test_large_white_images_do_not_wrap_around() -> None:
    """70,000 times 65,025 is above 2 to the 32nd."""
    sums, squares = pixel_sums(np.full((1, 280, 250, 1), 255, np.uint8))

    assert (sums.tolist(), squares.tolist()) == ([[70_000 * 255]], [[70_000 * 65_025]])


@pytest.mark.parametrize("shape", [(300, 32, 32, 3), (9, 37, 41, 1), (3, 1, 8191, 3), (2, 500, 375, 3), (4, 1, 1, 2)])
def test_images_of_any_size_and_number_have_exact_sums(shape: tuple[int, int, int, int]) -> None:
    for images in (np.random.default_rng(0).integers(0, 256, shape, np.uint8), np.full(shape, 255, np.uint8)):
        pixels = images.reshape(shape[0], -1, shape[3]).astype(np.int64)
        sums, squares = pixel_sums(images)
        np.testing.assert_array_equal(sums, pixels.sum(axis=1))
        np.testing.assert_array_equal(squares, (pixels**2).sum(axis=1))
