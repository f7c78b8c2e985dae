"""RandAugment, each operation against Pillow's or torchvision's, image by image."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from longtail.training.randaugment import OPERATIONS, Operations, draw_operations, randaugment

AMOUNTS = torch.tensor([0.0123, 0.1077, 0.3031, 0.4519, 0.6237, 0.8117, 0.9341, 0.9987])


def factor(amount: float) -> float:
    return 0.05 + 0.9 * amount


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, amount: ImageOps.autocontrast(image),
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(factor(amount)),
    "color": lambda image, amount: ImageEnhance.Color(image).enhance(factor(amount)),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(factor(amount)),
    "equalize": lambda image, amount: ImageOps.equalize(image),
    "identity": lambda image, amount: image,
    "posterize": lambda image, amount: ImageOps.posterize(image, int(4 + 4 * amount)),
    "rotate": lambda image, amount: image.rotate(-30 + 60 * amount),
    "sharpness": lambda image, amount: ImageEnhance.Sharpness(image).enhance(factor(amount)),
    "shear_x": lambda image, amount: affine(image, 1, 0.6 * amount - 0.3, 0, 0, 1, 0),
    "shear_y": lambda image, amount: affine(image, 1, 0, 0, 0.6 * amount - 0.3, 1, 0),
    "solarize": lambda image, amount: ImageOps.solarize(image, 256 * amount),
    "translate_x": lambda image, amount: affine(image, 1, 0, (0.6 * amount - 0.3) * image.width, 0, 1, 0),
    "translate_y": lambda image, amount: affine(image, 1, 0, 0, 0, 1, (0.6 * amount - 0.3) * image.height),
}


def pixels(num_images: int, channels: int = 3, height: int = 16, width: int = 20) -> np.ndarray:
    """(N, H, W, C) uint8, smooth enough for a histogram of many values."""
    generator = np.random.default_rng(3)
    return generator.normal(110, 45, (num_images, height, width, channels)).clip(0, 255).astype(np.uint8)


def as_images(arrays: np.ndarray) -> Tensor:
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255


def test_all_operations_of_the_paper_exist() -> None:
    assert list(OPERATIONS) == list(PILLOW) and len(OPERATIONS) == 14


@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_equals_pillow_s(name: str) -> None:
    arrays = pixels(len(AMOUNTS))
    found = OPERATIONS[name](as_images(arrays), AMOUNTS.view(-1, 1, 1, 1))
    for array, amount, ours in zip(arrays, AMOUNTS.tolist(), found, strict=True):
        expected = np.asarray(PILLOW[name](Image.fromarray(array), amount), np.float32)
        differences = np.abs(255 * ours.permute(1, 2, 0).numpy() - expected)
        # Pillow rounds to whole numbers after each step, and sums up angles in fixed point.
        assert (differences <= 2).mean() > 0.99, (amount, differences.max())
    if name != "identity":
        assert not torch.allclose(found, as_images(arrays), atol=0.02)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_image_has_its_own_operations_one_after_the_other(channels: int) -> None:
    images = as_images(pixels(60, channels, 9, 9))
    drawn = draw_operations(60, num_operations=3, generator=torch.Generator().manual_seed(5))
    found = randaugment(images, drawn)
    names = list(OPERATIONS)
    for i in range(60):
        expected = images[i : i + 1]
        for operation, amount in zip(drawn.operation[i], drawn.amount[i], strict=True):
            expected = OPERATIONS[names[operation]](expected, amount.view(1, 1, 1, 1))
        assert torch.allclose(found[i : i + 1], expected, atol=1e-5), i
    assert found.min() >= 0 and found.max() <= 1
    assert found.shape == images.shape


def test_the_result_for_an_image_does_not_depend_on_the_other_images() -> None:
    images = as_images(pixels(40))
    drawn = draw_operations(40, num_operations=2, generator=torch.Generator().manual_seed(6))
    together = randaugment(images, drawn)
    parts = [randaugment(images[part], drawn.part(part)) for part in (slice(0, 13), slice(13, 40))]
    assert torch.equal(together, torch.cat(parts))


def test_operations_and_amounts_are_drawn_uniformly() -> None:
    drawn = draw_operations(14_000, num_operations=2, generator=torch.Generator().manual_seed(7))
    counts = torch.bincount(drawn.operation.flatten(), minlength=14)
    assert counts.min() > 1_800 and counts.max() < 2_200  # 2,000 each; the standard deviation is 43
    assert drawn.amount.min() >= 0 and drawn.amount.max() < 1
    assert drawn.amount.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (drawn.operation[:, 0] == drawn.operation[:, 1]).any()


def test_operations_stay_on_the_cpu() -> None:
    moved = Operations(torch.zeros(3, 2, dtype=torch.int64), torch.rand(3, 2)).to(torch.device("meta"))
    assert moved.operation.device.type == "cpu" and moved.amount.device.type == "meta"
