"""FixMatch (Sohn et al. 2020): pseudo-labels made in every step, by the network as it is then.

An unlabeled image is seen twice. What the network takes the weakly augmented one for, if it is sure, is what it has to
say of the strongly augmented one. Weak: random crop and flip, as for labels. Strong: random resized crop, flip, colours
(training/views.py) and a square cut out; the paper has RandAugment in the place of the first three.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from conf.errors import UserError
from conf.options.semi import TrainSemiOptions
from data.contract import NO_CLASS, TRAIN, UNLABELED
from data.loader import load_split
from data.manifest import Manifest
from data.storage import Place
from training.augmentation import Choices, CropFlip, crop_and_flip, draw_crop_flip
from training.losses import LossFunction
from training.pseudo_labels import class_thresholds, joined, stays_on_disk
from training.tasks import Task, label_task, load_samples, new_samples
from training.views import ViewChoices, draw_view, view


@dataclass(frozen=True)
class WeakAndStrong(Choices):
    """Those of both views of an image; row, column: (N,) middle of the square that the strong one lacks."""

    weak: CropFlip
    strong: ViewChoices
    row: Tensor
    column: Tensor


def fixmatch_task(options: TrainSemiOptions, set_dir: Place, manifest: Manifest, device: torch.device) -> Task:
    """Labelled samples and behind them the unlabeled ones, of class NO_CLASS. Class counts are those of the labelled.

    Raises UserError if there is no unlabeled image.
    """
    stays_on_disk(options, manifest)  # which is refused, as there is a ratio
    labelled = load_samples(options, set_dir, TRAIN, manifest, streamed=False)
    arrays = load_split(set_dir, UNLABELED, manifest)
    if not len(arrays.ids):
        raise UserError(f"{set_dir} has no unlabeled part: give --imb_factor_unlabel (1 for a balanced one)")
    no_labels = np.full(len(arrays.ids), NO_CLASS, np.int64)
    unlabeled = new_samples(arrays.ids, arrays.images, no_labels, options.unlabeled_weight)
    task = label_task(options, joined(labelled, unlabeled), labelled, set_dir, manifest, device)
    thresholds = torch.from_numpy(class_thresholds(options, manifest.num_classes).copy()).to(device)
    return replace(
        task,
        unlabeled_ratio=options.unlabeled_ratio,
        draw=draw_weak_and_strong,
        training_inputs=weak_and_strong,
        training_loss=partial(fixmatch_loss, loss=task.loss, thresholds=thresholds),
    )


def draw_weak_and_strong(task: Task, num_samples: int, generator: torch.Generator) -> WeakAndStrong:
    _, height, width = task.train.image_shape
    return WeakAndStrong(
        draw_crop_flip(num_samples, height=height, flip=task.mirror, generator=generator),
        draw_view(num_samples, height=height, width=width, flip=task.mirror, generator=generator),
        torch.randint(height, (num_samples,), generator=generator),
        torch.randint(width, (num_samples,), generator=generator),
    )


def weak_and_strong(task: Task, images: Tensor, targets: Tensor, choices: WeakAndStrong) -> tuple[Tensor, Tensor]:
    """(2 n, C, H, W): all weak views, then all strong ones, in one batch for the batch norm; targets (n,) as given."""
    weak = task.normalisation.apply(crop_and_flip(images, choices.weak))
    strong = task.normalisation.apply_to_unit(view(images.float() / 255, choices.strong))
    return torch.cat([weak, without_square(strong, choices.row, choices.column)]), targets


def without_square(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Normalised images (N, C, H, W) with a square of half their height at these places (N,) made the mean colour."""
    height, width = images.shape[2:]

    def within(middle: Tensor, size: int) -> Tensor:
        distance = torch.arange(size, device=images.device) - middle.to(images.device)[:, None]  # (N, size)
        return (distance >= -(height // 4)) & (distance < height // 4)

    cut = within(row, height)[:, None, :, None] & within(column, width)[:, None, None, :]  # (N, 1, H, W)
    return images.masked_fill(cut, 0)


def fixmatch_loss(logits: Tensor, targets: Tensor, *, loss: LossFunction, thresholds: Tensor) -> Tensor:
    """(N,) the loss of a labelled image's weak view; of an unlabeled one's strong view, for what its weak one is.

    The latter is 0 unless the weak view's confidence reaches the threshold of that class.

    logits: (2 N, C) of the weak and then the strong views; targets: (N,), NO_CLASS for unlabeled; thresholds: (C,)
    """
    weak, strong = logits.chunk(2)  # (N, C), (N, C)
    confidence, pseudo_labels = weak.detach().softmax(dim=1).max(dim=1)  # (N,), (N,)
    is_sure = confidence >= thresholds[pseudo_labels]
    # Both for every image: to pick out those with labels would make a GPU wait for their number.
    own = loss(weak, targets.clamp(min=0))
    others = loss(strong, pseudo_labels) * is_sure
    return torch.where(targets == NO_CLASS, others, own)
