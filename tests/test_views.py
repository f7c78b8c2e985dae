"""Strong augmentation, against torchvision's on the same choices and image by image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from longtail.training.views import ViewChoices, draw_view, gaussian_blur, grayscale, resized_crop, shift_hue, view


def images(num_images: int = 24, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(num_images, channels, height, width, generator=generator)


def choices(num_images: int = 24, *, height: int = 12, width: int = 12, flip: bool = True) -> ViewChoices:
    return draw_view(
        num_images, height=height, width=width, flip=flip, generator=torch.Generator().manual_seed(2)
    )  # fmt: skip


def reference_crop(image: Tensor, c: ViewChoices, i: int) -> Tensor:
    height, width = image.shape[1:]
    top, left, h, w = (int(field[i]) for field in (c.top, c.left, c.height, c.width))
    cut = reference.resized_crop(
        image, top, left, h, w, [height, width], interpolation=InterpolationMode.BILINEAR, antialias=False
    )
    return reference.horizontal_flip(cut) if c.flip[i] else cut


@pytest.mark.parametrize("size", [(12, 12), (8, 8), (9, 14)])
def test_a_crop_is_cut_and_stretched_as_torchvision_does(size: tuple[int, int]) -> None:
    x, c = images(height=size[0], width=size[1]), choices(height=size[0], width=size[1])
    ours = resized_crop(x, c)
    for i in range(len(x)):
        assert torch.allclose(ours[i], reference_crop(x[i], c, i), atol=1e-5)
    assert c.flip.any() and not c.flip.all()


def test_a_view_equals_torchvision_s_operations_in_sequence() -> None:
    x, c = images(), choices()
    ours = view(x, c)
    for i in range(len(x)):
        expected = reference_crop(x[i], c, i)
        expected = reference.adjust_brightness(expected, float(c.brightness[i]))
        expected = reference.adjust_contrast(expected, float(c.contrast[i]))
        expected = reference.adjust_saturation(expected, float(c.saturation[i]))
        expected = reference.adjust_hue(expected, float(c.hue[i]))
        if c.gray[i]:
            expected = reference.rgb_to_grayscale(expected, num_output_channels=3)
        assert torch.allclose(ours[i], expected, atol=2e-3), i
    assert c.gray.any() and (c.hue != 0).any() and (c.hue == 0).any()


def test_a_shifted_hue_equals_torchvision_s() -> None:
    x = images(6)
    turns = torch.tensor([-0.5, -0.1, 0.0, 0.05, 0.1, 0.5])
    for image, ours, turn in zip(x, shift_hue(x, turns), turns, strict=True):
        assert torch.allclose(ours, reference.adjust_hue(image, float(turn)), atol=1e-4)


def test_a_third_of_a_turn_makes_red_green_and_leaves_gray() -> None:
    red_and_gray = torch.tensor([[1.0, 0.4], [0.2, 0.4], [0.2, 0.4]]).view(1, 3, 1, 2)
    turned = shift_hue(red_and_gray, torch.tensor([1 / 3]))
    assert turned.flatten().tolist() == pytest.approx([0.2, 0.4, 1.0, 0.4, 0.2, 0.4], abs=1e-5)


def test_images_of_one_channel_have_crops_brightness_and_contrast_only() -> None:
    x, c = images(channels=1), choices()
    ours = view(x, c)
    assert ours.shape == x.shape
    expected = resized_crop(x, c)
    for i in range(len(x)):
        bright = (expected[i] * c.brightness[i]).clamp(0, 1)
        contrast = (c.contrast[i] * bright + (1 - c.contrast[i]) * bright.mean()).clamp(0, 1)
        assert torch.allclose(ours[i], contrast, atol=1e-6)
    assert torch.equal(grayscale(x), x)


def test_crops_are_within_the_image_and_have_the_drawn_areas() -> None:
    c = choices(20_000, height=32, width=32)
    for start, length in ((c.top, c.height), (c.left, c.width)):
        assert (start >= 0).all() and (start + length <= 32).all() and (length >= 1).all()
        assert torch.equal(length, length.round())
    share = (c.height * c.width / 32**2).numpy()
    # Uniform on 0.2..1, mean 0.6; rounding to pixels and cutting at the borders move it a little.
    assert share.mean() == pytest.approx(0.6, abs=0.02)
    assert share.min() < 0.22 and share.max() == 1


def test_colours_change_with_their_probabilities_and_ranges() -> None:
    c = choices(20_000)
    changed = (c.hue != 0).double().mean()
    assert changed == pytest.approx(0.8, abs=0.01)
    assert c.gray.double().mean() == pytest.approx(0.2, abs=0.01)
    assert c.flip.double().mean() == pytest.approx(0.5, abs=0.01)
    for factors in (c.brightness, c.contrast, c.saturation):
        assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
    assert -0.1 <= c.hue.min() < -0.099 and 0.099 < c.hue.max() <= 0.1


def test_large_images_are_blurred_half_of_the_time_and_small_ones_never() -> None:
    large, small = choices(20_000, height=64, width=80), choices(200, height=63, width=80)
    assert (large.blur > 0).double().mean() == pytest.approx(0.5, abs=0.01)
    drawn = large.blur[large.blur > 0]
    assert 0.1 <= drawn.min() < 0.11 and 1.99 < drawn.max() <= 2.0
    assert not small.blur.any()


def test_each_image_is_blurred_as_torchvision_does() -> None:
    x = images(4, height=64, width=72)
    sigma = torch.tensor([0.0, 0.1, 0.8, 2.0])
    ours = gaussian_blur(x, sigma)
    assert torch.equal(ours[0], x[0])
    for i in (1, 2, 3):
        # 64 // 20 pixels to each side of the middle.
        expected = reference.gaussian_blur(x[i], kernel_size=[7, 7], sigma=[float(sigma[i])] * 2)
        assert torch.allclose(ours[i], expected, atol=1e-5)
    assert ours[3].std() < x[3].std() / 2


def test_a_view_of_a_large_image_ends_with_its_blur() -> None:
    x, c = images(6, height=64, width=64), choices(6, height=64, width=64)
    sharp = view(x, replace(c, blur=torch.zeros(6)))
    assert torch.allclose(view(x, c), gaussian_blur(sharp, c.blur), atol=1e-6)
    assert c.blur.any() and not torch.allclose(view(x, c), sharp, atol=1e-3)


def test_no_image_is_mirrored_where_that_changes_its_meaning() -> None:
    assert not choices(200, flip=False).flip.any()


def test_a_rank_s_share_does_not_depend_on_the_other_ranks() -> None:
    x, c = images(), choices()
    assert torch.allclose(view(x[5:9], c.part(slice(5, 9))), view(x, c)[5:9], atol=1e-6)


def test_without_changes_a_view_is_the_image() -> None:
    x, c = images(), choices()
    ones, zeros, full = torch.ones(24), torch.zeros(24), torch.full((24,), 12.0)
    c = replace(c, top=zeros, left=zeros, height=full, width=full, flip=zeros.bool(), gray=zeros.bool(), hue=zeros)
    c = replace(c, brightness=ones, contrast=ones, saturation=ones)
    assert np.allclose(view(x, c), x, atol=1e-5)
