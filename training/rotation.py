"""Pre-training by rotation prediction (Gidaris et al. 2018): by how many quarter turns was an image rotated?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.manifest import Manifest
from longtail.training.augmentation import (
    Choices,
    CropFlip,
    crop_and_flip,
    draw_crop_flip,
    rotate_quarter_turns,
)
from longtail.training.distributed import Rank
from longtail.training.method import TrainingMethod
from longtail.training.objective import Objective, Task
from longtail.training.run_directory import RunPaths
from longtail.training.training_data import TrainingData, self_supervised_data

ROTATION_NAMES = ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]


@dataclass(frozen=True)
class CropAndTurn(Choices):
    """A crop and flip of each image, and quarter turns (N,) in 0..3."""

    crop_flip: CropFlip
    turns: Tensor


class RotationObjective(Objective):
    """Each image is seen at one random turn per epoch; held-out images at a turn fixed by their id."""

    def draw(self, data: TrainingData, num_samples: int, generator: torch.Generator) -> Choices:
        _, height, _ = data.train.image_shape
        crop_flip = draw_crop_flip(num_samples, height=height, flip=data.horizontal_flip, generator=generator)
        return CropAndTurn(crop_flip, torch.randint(4, (num_samples,), generator=generator))

    def training_inputs(
        self, data: TrainingData, images: Tensor, targets: Tensor, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(choices, CropAndTurn)
        images = data.normalisation.apply(crop_and_flip(images, choices.crop_flip))
        return rotated(images, choices.turns)

    def evaluation_inputs(
        self, data: TrainingData, images: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        return rotated(data.normalisation.apply(images), ids % 4)


def rotated(images: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Images (n, C, S, S) rotated by their quarter turns (n,), and the turns as targets on the same device."""
    return rotate_quarter_turns(images, turns), turns.to(images.device)


def rotation_task(options: PretrainRotOptions, set_dir: Location, manifest: Manifest, device: torch.device) -> Task:
    """Learn the rotations of the labelled part's images, without their labels."""
    height, width, _ = manifest.image_shape
    if height != width:
        raise UserError(
            f"rotation needs square images, {manifest.dataset} has {height}x{width}: pre-train by pretrain_moco or "
            f"pretrain_simclr"
        )
    per_turn = manifest.num_images(TRAIN) // len(ROTATION_NAMES)
    data = self_supervised_data(
        options,
        set_dir,
        manifest,
        device,
        class_names=ROTATION_NAMES,
        class_counts=[per_turn] * len(ROTATION_NAMES),
        is_evaluated=True,
    )
    return Task(data, RotationObjective())


class RotationMethod(TrainingMethod[PretrainRotOptions]):
    """The method of the job pretrain_rot."""

    def task(self, options: PretrainRotOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        return rotation_task(options, paths.set_dir, manifest, rank.device)
