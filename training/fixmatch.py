"""FixMatch (Sohn et al. 2020): pseudo-labels made in every step, by the network as it is then.

The class predicted for the weakly augmented view of an unlabeled image, if the confidence is high enough, is the target
of its strongly augmented views (training/semi/views.py).

What pseudo-labels are made of, and what is learned besides them, is up to the method of --balancing (training/semi/).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED, VAL
from longtail.data.loader import ImageArrays, load_split
from longtail.data.manifest import Manifest
from longtail.data.pseudo_label_table import check_table_fits, load_pseudo_labels, load_round
from longtail.models.build import num_features
from longtail.models.network import Network
from longtail.training.augmentation import Choices
from longtail.training.distributed import Rank
from longtail.training.evaluation import totals_and_predictions
from longtail.training.losses import LossFunction
from longtail.training.metrics import ClassTotals, Confusion
from longtail.training.objective import Objective, Task, classification_objective
from longtail.training.pseudo_labels import class_thresholds, stays_on_disk
from longtail.training.run_directory import RunPaths
from longtail.training.samples import Samples, joined, load_samples, new_samples
from longtail.training.semi.crest import rebalanced_selection
from longtail.training.semi.fixmatch_base import TrainingContext, ViewOutputs, load_method
from longtail.training.semi.image_pseudo_labels import ImagePseudoLabels
from longtail.training.semi.semi_module import SemiModule
from longtail.training.semi.truth import count_pseudo_labels, load_truth
from longtail.training.semi.views import WeakAndStrong, draw_weak_and_strong, weak_and_strong
from longtail.training.step import Step
from longtail.training.supervised import LabelMethod
from longtail.training.training_data import TrainingData, labelled_data


@dataclass(frozen=True, kw_only=True)
class FixMatchObjective(Objective):
    """The labels of the weak views, and the pseudo-labels of the strong ones.

    thresholds: (C,) smallest confidence of a pseudo-label that is learned
    truth: (U,) true classes of the unlabeled images, NO_CLASS for none, only to count correct pseudo-labels; or None
    model: the trained module, which is made after the objective; None until then
    """

    num_strong_views: int
    num_operations: int
    thresholds: Tensor
    truth: Tensor | None
    model: SemiModule | None = None

    steps_are_alike: ClassVar[bool] = False

    def draw(self, data: TrainingData, num_samples: int, generator: torch.Generator) -> Choices:
        return draw_weak_and_strong(
            data,
            num_samples,
            generator,
            num_strong_views=self.num_strong_views,
            num_operations=self.num_operations,
        )

    def training_inputs(
        self, data: TrainingData, images: Tensor, targets: Tensor, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(choices, WeakAndStrong)
        return weak_and_strong(data, images, choices), targets

    def model_inputs(self, step: Step) -> tuple[Tensor, ...]:
        return step.inputs, step.labelled.local, step.unlabeled.local

    def losses(self, outputs: object, step: Step) -> tuple[Tensor, Tensor]:
        """Logits (n, C) of the weak views by the head that is kept, and losses (n,) of the images."""
        assert isinstance(outputs, ViewOutputs) and self.model is not None
        method = self.model.method
        views = ViewOutputs(
            outputs.features.float(),
            self.logit_scale * outputs.logits.float(),
            self.logit_scale * outputs.backbone_logits.float(),
        )
        with torch.no_grad():
            probabilities = method.probabilities(views.weak(), step)  # (n, C)
            confidence, pseudo_labels = probabilities.max(dim=1)  # (n,), (n,)
            is_confident = confidence >= self.thresholds[pseudo_labels]  # (n,)
        losses = fixmatch_losses(
            views.backbone_logits, step.targets, pseudo_labels, is_confident, loss=self.loss_of(step)
        )
        self._record(step, pseudo_labels, is_confident, confidence, losses.detach())
        further = method.further_losses(views, step)
        return views.logits[0], losses if further is None else losses + further

    def _record(self, step: Step, *per_image: Tensor) -> None:
        """Record the pseudo-labels of a step; per_image: (n,) pseudo-labels, is_confident, confidence and losses"""
        assert self.model is not None and self.image_pseudo_labels is not None
        indices = step.unlabeled.local_indices - self.model.method.context.num_labelled
        pseudo_labels, is_confident, confidence, losses = (values[step.unlabeled.local] for values in per_image)
        self.image_pseudo_labels.add(indices, pseudo_labels, confidence, is_confident, step=step.number)
        if self.pseudo_label_totals is not None:
            assert self.truth is not None
            truth = self.truth[indices]
            count_pseudo_labels(self.pseudo_label_totals, truth, pseudo_labels, is_confident, confidence, losses)

    def after_step(self, step: Step) -> None:
        assert self.model is not None
        self.model.update_average(step)


def fixmatch_losses(
    logits: Tensor, targets: Tensor, pseudo_labels: Tensor, is_confident: Tensor, *, loss: LossFunction
) -> Tensor:
    """(n,) loss of a labelled image's weak view; of an unlabeled image's strong views for its pseudo-label.

    logits: (V, n, C) of the weak view, then of the strong views, over which the loss is the mean
    targets: (n,) classes, NO_CLASS for unlabeled images; pseudo_labels, is_confident: (n,)
    An unlabeled image without a confident pseudo-label has loss 0.
    """
    weak, *strong = logits  # (n, C) each
    # Both for every image: selecting those with labels would make a GPU wait for their number.
    labelled = loss(weak, targets.clamp(min=0))
    unlabeled = torch.stack([loss(view, pseudo_labels) for view in strong]).mean(dim=0) * is_confident
    return torch.where(targets == NO_CLASS, unlabeled, labelled)


def fixmatch_task(
    options: TrainSemiOptions,
    set_dir: Location,
    manifest: Manifest,
    device: torch.device,
    *,
    pseudo_labels: Location | None = None,
) -> Task:
    """Learn the labelled samples and, behind them, the unlabeled ones (class NO_CLASS), which class counts leave out.

    pseudo_labels: table of the previous generation; CReST selects from it labels of this one

    Raises UserError if there is no unlabeled image.
    """
    stays_on_disk(options, manifest)  # raises UserError, as there is an unlabeled ratio
    labelled = load_samples(options, set_dir, TRAIN, manifest, streamed=False)
    arrays = load_split(set_dir, UNLABELED, manifest)
    if not len(arrays.ids):
        raise UserError(f"{set_dir} has no unlabeled part: give --imb_factor_unlabel (1 for a balanced one)")
    generation = 0
    if pseudo_labels is not None:
        check_table_fits(pseudo_labels, manifest, set_dir=set_dir)
        generation = load_round(pseudo_labels)
        labelled = joined(labelled, _selected(options, arrays, manifest, pseudo_labels))
    no_labels = np.full(len(arrays.ids), NO_CLASS, np.int64)
    unlabeled = new_samples(arrays.ids, arrays.images, no_labels, options.unlabeled_weight)
    own_counts = manifest.counts[TRAIN] if options.class_counts == "labelled" else None
    everything = joined(labelled, unlabeled)
    data = labelled_data(options, everything, labelled, set_dir, manifest, device, rule_counts=own_counts)
    truth = load_truth(set_dir, arrays.ids)
    objective = FixMatchObjective(
        **vars(classification_objective(options, data.rule_counts, device)),
        num_strong_views=options.num_strong_views,
        num_operations=options.strong_operations,
        thresholds=torch.from_numpy(class_thresholds(options, manifest.num_classes).copy()).to(device),
        truth=None if truth is None else truth.to(device),
    )
    totals = None if truth is None else ClassTotals.zeros(manifest.num_classes, device)
    latest = ImagePseudoLabels.zeros(len(arrays.ids), device)
    objective = replace(objective, pseudo_label_totals=totals, image_pseudo_labels=latest)
    return Task(
        replace(data, unlabeled_ratio=options.unlabeled_ratio, pseudo_label_round=generation), objective
    )  # fmt: skip


def _selected(options: TrainSemiOptions, unlabeled: ImageArrays, manifest: Manifest, table: Location) -> Samples:
    """The unlabeled images that CReST adds to the labelled ones, with their pseudo-labels from the table."""
    ids, labels, confidence = load_pseudo_labels(table)
    indices = np.searchsorted(unlabeled.ids, ids)
    if not np.array_equal(unlabeled.ids[indices.clip(max=len(unlabeled.ids) - 1)], ids):
        raise UserError(
            f"{table} labels other images than the unlabeled part of the set: run gen_pseudolabels for this set"
        )
    chosen = rebalanced_selection(labels, confidence, manifest.counts[TRAIN], alpha=options.crest_alpha)
    return new_samples(ids[chosen], unlabeled.images[indices[chosen]], labels[chosen], 1.0)


def fixmatch_module(network: Network, options: TrainSemiOptions, task: Task, rank: Rank) -> tuple[Task, SemiModule]:
    """The module that is trained, with the method of --balancing, and the task with its objective."""
    data, objective = task.data, task.objective
    assert isinstance(objective, FixMatchObjective)
    model = SemiModule(network, ema_decay=options.ema_decay)
    model.method = load_method(options.balancing)(
        TrainingContext(
            options=options,
            rank=rank,
            labelled_counts=[n - added for n, added in zip(data.class_counts, data.pseudo_label_counts, strict=True)],
            num_labelled=data.num_labelled,
            num_unlabeled=len(data.train) - data.num_labelled,
            num_features=num_features(network),
            head=objective.head,
            thresholds=objective.thresholds,
            average=network,
            generation=data.pseudo_label_round,
            held_out_confusion=partial(held_out_confusion, network, task, rank) if VAL in data.held_out else None,
        )
    )
    return task.with_objective(model=model), model


def held_out_confusion(network: Network, task: Task, rank: Rank) -> Confusion:
    """Confusion matrix of the network on the validation images, during a training."""
    was_training = network.training
    _, predictions = totals_and_predictions(network, task.data.held_out[VAL], task, rank)
    network.train(was_training)
    return predictions.confusion(task.data.num_classes)


class FixMatchMethod(LabelMethod[TrainSemiOptions]):
    """The method of train_semi --semi_method fixmatch."""

    def task(self, options: TrainSemiOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        return fixmatch_task(options, paths.set_dir, manifest, rank.device, pseudo_labels=paths.pseudo_labels)

    def trained_module(
        self, network: Network, options: TrainSemiOptions, paths: RunPaths, task: Task, rank: Rank
    ) -> tuple[Task, nn.Module]:
        return fixmatch_module(network, options, task, rank)
