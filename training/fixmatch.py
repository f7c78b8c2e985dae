"""FixMatch (Sohn et al. 2020): pseudo-labels made in every step, by the network as it is then.

An unlabeled image is seen twice. What the network takes the weakly augmented one for, if it is sure, is what it has to
say of the strongly augmented one. Weak: random crop and flip, mirrored beyond the edges. Strong: the same drawn anew,
RandAugment (training/randaugment.py) and a square cut out.

What pseudo-labels are made of, and what is learned beside them, is the method's of --balancing (training/semi/).
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED, VAL
from longtail.data.loader import ImageArrays, load_pseudo_labels, load_round, load_split
from longtail.data.manifest import Manifest
from longtail.data.storage import Place
from longtail.models.build import ARCHITECTURES
from longtail.training.augmentation import Choices, CropFlip, crop_and_flip, draw_crop_flip
from longtail.training.distributed import Rank
from longtail.training.evaluation import totals_and_confusion
from longtail.training.metrics import ClassTotals, Confusion
from longtail.training.pseudo_labels import class_thresholds, joined, stays_on_disk
from longtail.training.randaugment import Operations, draw_operations, randaugment
from longtail.training.semi.abc_head import AuxiliaryBalancedClassifier
from longtail.training.semi.alignment import DistributionAlignment, ProgressiveAlignment
from longtail.training.semi.crest import rebalanced_selection
from longtail.training.semi.darp import DistributionAligningRefinery
from longtail.training.semi.daso import SemanticPseudoLabels
from longtail.training.semi.learner import SemiLearner
from longtail.training.semi.method import FixMatch, Setting
from longtail.training.semi.truth import known_truth
from longtail.training.step import Step
from longtail.training.tasks import Samples, Task, label_task, load_samples, new_samples

METHODS: dict[str, type[FixMatch]] = {
    "none": FixMatch,
    "DA": DistributionAlignment,
    "DARP": DistributionAligningRefinery,
    "CReST+": ProgressiveAlignment,
    "ABC": AuxiliaryBalancedClassifier,
    "DASO": SemanticPseudoLabels,
}
"""By --balancing."""


@dataclass(frozen=True)
class StrongChoices(Choices):
    """Crop and flip, operations, and (N,) row and column of the middle of the square that is cut out."""

    crop_flip: CropFlip
    operations: Operations
    row: Tensor
    column: Tensor


@dataclass(frozen=True)
class WeakAndStrong(Choices):
    """Those of an image's views, of which all but one are strong.

    uniform: (N,) in [0, 1), for methods that draw which images count
    """

    weak: CropFlip
    strong: tuple[StrongChoices, ...]
    uniform: Tensor


def fixmatch_task(
    options: TrainSemiOptions,
    set_dir: Place,
    manifest: Manifest,
    device: torch.device,
    *,
    pseudo_labels: Path | None = None,
) -> Task:
    """Labelled samples and behind them the unlabeled ones, of class NO_CLASS. Class counts are those of the labelled.

    pseudo_labels: table of the generation before; those that CReST selects of it are labels in this one

    Raises UserError if there is no unlabeled image.
    """
    stays_on_disk(options, manifest)  # which is refused, as there is a ratio
    labelled = load_samples(options, set_dir, TRAIN, manifest, streamed=False)
    arrays = load_split(set_dir, UNLABELED, manifest)
    if not len(arrays.ids):
        raise UserError(f"{set_dir} has no unlabeled part: give --imb_factor_unlabel (1 for a balanced one)")
    generation = 0
    if pseudo_labels is not None:
        generation = load_round(pseudo_labels)
        labelled = joined(labelled, _selected(options, arrays, manifest, pseudo_labels))
    no_labels = np.full(len(arrays.ids), NO_CLASS, np.int64)
    unlabeled = new_samples(arrays.ids, arrays.images, no_labels, options.unlabeled_weight)
    own_counts = manifest.counts[TRAIN] if options.class_counts == "labelled" else None
    everything = joined(labelled, unlabeled)
    task = label_task(options, everything, labelled, set_dir, manifest, device, rule_counts=own_counts)
    truth = known_truth(set_dir, arrays.ids)
    return replace(
        task,
        unlabeled_ratio=options.unlabeled_ratio,
        pseudo_label_round=generation,
        draw=partial(
            draw_weak_and_strong,
            num_strong_views=options.num_strong_views,
            num_operations=options.strong_operations,
        ),
        training_inputs=weak_and_strong,
        unlabeled_truth=None if truth is None else truth.to(device),
        pseudo_label_totals=None if truth is None else ClassTotals.zeros(manifest.num_classes, device),
    )


def _selected(options: TrainSemiOptions, unlabeled: ImageArrays, manifest: Manifest, table: Path) -> Samples:
    """The unlabeled images that CReST takes for labelled ones, by their pseudo-labels in the table."""
    ids, labels, confidence = load_pseudo_labels(table)
    places = np.searchsorted(unlabeled.ids, ids)
    if not np.array_equal(unlabeled.ids[places.clip(max=len(unlabeled.ids) - 1)], ids):
        raise UserError(f"{table} labels other images than the unlabeled part of the set: label that one")
    chosen = rebalanced_selection(labels, confidence, manifest.counts[TRAIN], alpha=options.crest_alpha)
    return new_samples(ids[chosen], unlabeled.images[places[chosen]], labels[chosen], 1.0)


def fixmatch_learner(network: nn.Module, options: TrainSemiOptions, task: Task, rank: Rank) -> tuple[Task, SemiLearner]:
    """What is trained, with the method of --balancing, and the task that learns by it."""
    thresholds = torch.from_numpy(class_thresholds(options, len(task.class_names)).copy()).to(rank.device)
    learner = SemiLearner(
        network,
        ema_decay=options.ema_decay,
        weak_apart=options.weak_views == "apart",
        thresholds=thresholds,
        truth=task.unlabeled_truth,
    )
    learner.method = METHODS[options.balancing](
        Setting(
            options=options,
            rank=rank,
            labelled_counts=[n - added for n, added in zip(task.class_counts, task.pseudo_label_counts, strict=True)],
            num_labelled=task.num_labelled,
            num_unlabeled=len(task.train) - task.num_labelled,
            num_features=ARCHITECTURES[options.arch].num_features,
            head=task.head,
            thresholds=thresholds,
            average=network,
            generation=task.pseudo_label_round,
            held_out_confusion=partial(held_out_confusion, network, task, rank) if VAL in task.evaluation else None,
        )
    )
    return (
        replace(
            task,
            model_inputs=images_and_rows,
            step_losses=learner.step_losses,
            after_step=learner.after_step,
        ),
        learner,
    )


def held_out_confusion(network: nn.Module, task: Task, rank: Rank) -> Confusion:
    """How the network is mistaken on the validation images; for use within a training."""
    was_training = network.training
    _, confusion = totals_and_confusion(network, task.evaluation[VAL], task, rank)
    network.train(was_training)
    return confusion


def images_and_rows(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    assert step.labelled is not None and step.unlabeled is not None
    return step.inputs, step.labelled.mine, step.unlabeled.mine


def draw_weak_and_strong(
    task: Task, num_samples: int, generator: torch.Generator, *, num_strong_views: int, num_operations: int
) -> WeakAndStrong:
    _, height, width = task.train.image_shape
    crop_flip = partial(draw_crop_flip, num_samples, height=height, flip=task.mirror, generator=generator)

    def strong() -> StrongChoices:
        return StrongChoices(
            crop_flip(),
            draw_operations(num_samples, num_operations=num_operations, generator=generator),
            torch.randint(height, (num_samples,), generator=generator),
            torch.randint(width, (num_samples,), generator=generator),
        )

    weak = crop_flip()
    return WeakAndStrong(
        weak, tuple(strong() for _ in range(num_strong_views)), torch.rand(num_samples, generator=generator)
    )


def weak_and_strong(task: Task, images: Tensor, targets: Tensor, choices: WeakAndStrong) -> tuple[Tensor, Tensor]:
    """(V n, C, H, W): all weak views, then all strong ones, in one batch for the batch norm; targets (n,) as given."""
    weak = task.normalisation.apply(crop_and_flip(images, choices.weak, mirrored=True))
    return torch.cat([weak, *(_strong_view(task, images, strong) for strong in choices.strong)]), targets


def _strong_view(task: Task, images: Tensor, choices: StrongChoices) -> Tensor:
    changed = randaugment(crop_and_flip(images, choices.crop_flip, mirrored=True).float() / 255, choices.operations)
    return without_square(task.normalisation.apply_to_unit(changed), choices.row, choices.column)


def without_square(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Normalised images (N, C, H, W) with a square of half their height at these places (N,) made the mean colour."""
    height, width = images.shape[2:]

    def within(middle: Tensor, size: int) -> Tensor:
        distance = torch.arange(size, device=images.device) - middle.to(images.device)[:, None]  # (N, size)
        return (distance >= -(height // 4)) & (distance < height // 4)

    cut = within(row, height)[:, None, :, None] & within(column, width)[:, None, None, :]  # (N, 1, H, W)
    return images.masked_fill(cut, 0)
