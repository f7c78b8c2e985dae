"""Augmentation against torchvision's functions on the same draws, and the constants of normalisation."""

from pathlib import Path

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor

from longtail.conf.arguments import resolve_options
from longtail.conf.options.training import TrainOptions
from longtail.training.augmentation import (
    CropFlip,
    Normalisation,
    constants,
    crop_and_flip,
    crop_padding,
    draw_crop_flip,
    rotate_quarter_turns,
)
from longtail.training.training_data import set_normalisation
from tests.prepared_set import write_manifest


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator())


@pytest.mark.parametrize(("height", "padding"), [(32, 4), (28, 3), (64, 8), (8, 1), (4, 1)])
def test_padding_is_four_pixels_for_32_and_in_proportion_otherwise(height: int, padding: int) -> None:
    assert crop_padding(height) == padding


@pytest.mark.parametrize("shape", [(40, 3, 32, 32), (40, 1, 28, 28), (40, 1, 8, 8), (40, 2, 9, 14)])
@pytest.mark.parametrize(("mirrored", "mode"), [(False, "constant"), (True, "reflect")])
def test_crops_and_flips_are_those_of_torchvision(shape: tuple[int, ...], mirrored: bool, mode: str) -> None:
    images, height, width = images_of(shape), shape[2], shape[3]
    choices = draw_crop_flip(len(images), height=height, flip=True, generator=generator(1))
    results = crop_and_flip(images, choices, mirrored=mirrored)
    for image, result, top, left, flip in zip(images, results, choices.top, choices.left, choices.flip, strict=True):
        padded = TF.pad(image, [crop_padding(height)] * 4, padding_mode=mode)
        expected = TF.crop(padded, int(top), int(left), height, width)
        assert torch.equal(result, TF.hflip(expected) if flip else expected)


def test_the_middle_crop_without_flip_is_the_image() -> None:
    images = images_of((3, 1, 8, 8))
    middle = torch.ones(3, dtype=torch.int64)  # padding 1
    assert torch.equal(crop_and_flip(images, CropFlip(middle, middle, torch.zeros(3, dtype=torch.bool))), images)


def test_every_offset_and_both_flips_are_drawn() -> None:
    choices = draw_crop_flip(2000, height=32, flip=True, generator=generator())
    for offsets in (choices.top, choices.left):
        assert offsets.unique().tolist() == list(range(9))
    # 2000 throws of a fair coin: five standard deviations are 112.
    assert abs(int(choices.flip.sum()) - 1000) < 112
    # Independent of each other: five standard deviations of a correlation of 2000 pairs are 0.112.
    pairs = torch.stack([choices.top.double(), choices.left.double(), choices.flip.double()])
    assert (torch.corrcoef(pairs) - torch.eye(3)).abs().max() < 0.112


def test_without_mirroring_the_crops_are_the_same_ones() -> None:
    mirrored, plain = (draw_crop_flip(50, height=32, flip=flip, generator=generator(3)) for flip in (True, False))
    assert torch.equal(mirrored.top, plain.top) and torch.equal(mirrored.left, plain.left)
    assert mirrored.flip.any() and not plain.flip.any()


@pytest.mark.parametrize("part", [slice(0, 5), slice(5, 11), slice(3, 4), slice(0, 0)])
def test_what_happens_to_an_image_does_not_depend_on_the_part_taken(part: slice) -> None:
    images = images_of((11, 3, 32, 32))
    choices = draw_crop_flip(11, height=32, flip=True, generator=generator(2))
    assert torch.equal(crop_and_flip(images[part], choices.part(part)), crop_and_flip(images, choices)[part])


@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (12, 1, 8, 8), (12, 2, 7, 7)])
def test_rotations_are_those_of_torchvision(shape: tuple[int, ...]) -> None:
    images = images_of(shape)
    turns = torch.arange(12) % 4
    for image, result, turn in zip(images, rotate_quarter_turns(images, turns), turns, strict=True):
        assert torch.equal(result, TF.rotate(image, 90.0 * int(turn)))


def test_a_quarter_turn_is_counter_clockwise_and_does_not_change_its_input() -> None:
    images = torch.tensor([[[[1, 2], [3, 4]]]])
    assert rotate_quarter_turns(images, torch.tensor([1])).tolist() == [[[[2, 4], [1, 3]]]]
    assert images.tolist() == [[[[1, 2], [3, 4]]]]


def test_normalisation_takes_the_mean_off_each_channel_and_divides_by_its_deviation() -> None:
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # two channels of 1x2 pixels
    normalised = Normalisation(mean=(0.5, 0.2), std=(0.25, 0.1)).apply(images)
    assert normalised.dtype == torch.float32
    # (0 - 0.5) / 0.25, (1 - 0.5) / 0.25; (0.2 - 0.2) / 0.1, (0.4 - 0.2) / 0.1
    assert normalised.flatten().tolist() == pytest.approx([-2, 2, 0, 2], abs=1e-5)


def test_normalisation_is_that_of_torchvision() -> None:
    images = torch.randint(256, (20, 3, 5, 7), generator=generator(), dtype=torch.uint8)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    normalised = Normalisation(mean, std).apply(images)
    for image, ours in zip(images, normalised, strict=True):
        assert torch.allclose(ours, TF.normalize(TF.convert_image_dtype(image), mean, std), atol=1e-6)


def test_constants_are_made_once_and_fit_for_learning_wherever_they_were_made() -> None:
    with torch.inference_mode():
        first = constants((0.25, 0.75), torch.device("cpu"))
    assert constants((0.25, 0.75), torch.device("cpu")) is first
    assert first.flatten().tolist() == [0.25, 0.75] and not first.is_inference()


def test_a_set_without_published_constants_is_normalised_by_the_moments_of_its_labelled_images(tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path, {"train": [1, 1]}, image_shape=(8, 8, 2), channel_mean=[0.2, 0.5], channel_std=[0.0, 0.25]
    )
    normalisation = set_normalisation(resolve_options(TrainOptions, {"dataset": "digits"}), manifest)
    # The deviation of a constant channel counts as 1, so that it stays finite.
    assert normalisation == Normalisation(mean=(0.2, 0.5), std=(1.0, 0.25))
    of_cifar = set_normalisation(resolve_options(TrainOptions, {"dataset": "cifar10"}), manifest)
    assert len(of_cifar.mean) == 3
