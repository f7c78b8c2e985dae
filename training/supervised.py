"""Supervised training: labels only; and what all trainings on labels share, the pre-trained backbone."""

from typing import TypeVar

import torch
from torch import nn

from longtail.conf.base.locations import Location
from longtail.conf.options.training import SupervisedOptions, TrainOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.manifest import Manifest
from longtail.models.network import Network
from longtail.training.checkpoints import HEAD_PREFIX
from longtail.training.distributed import Rank
from longtail.training.feature_training import head_module
from longtail.training.method import TrainingMethod
from longtail.training.networks import load_backbone
from longtail.training.objective import Task, classification_objective
from longtail.training.run_directory import RunPaths
from longtail.training.samples import load_samples
from longtail.training.training_data import labelled_data
from longtail.training.tuning import freeze, learn_last_blocks


def supervised_task(options: SupervisedOptions, set_dir: Location, manifest: Manifest, device: torch.device) -> Task:
    """Learn the labels of the labelled part."""
    labelled = load_samples(options, set_dir, TRAIN, manifest)
    data = labelled_data(options, labelled, labelled, set_dir, manifest, device)
    return Task(data, classification_objective(options, data.rule_counts, device))


LabelOptions = TypeVar("LabelOptions", bound=TrainOptions)


class LabelMethod(TrainingMethod[LabelOptions]):
    """Base of the methods that learn the classes and may start from the backbone of --pretrained_model."""

    def network(self, options: LabelOptions, task: Task, rank: Rank) -> tuple[Task, Network]:
        task, network = super().network(options, task, rank)
        if options.pretrained_model is not None:
            load_backbone(network, options.pretrained_model, options)
        if (num_blocks := options.num_tuned_blocks) is not None:
            learn_last_blocks(network, num_blocks)
            task = task.with_objective(has_frozen_layers=True)
        return task, network

    def trained_module(
        self, network: Network, options: LabelOptions, paths: RunPaths, task: Task, rank: Rank
    ) -> tuple[Task, nn.Module]:
        if options.tune == "head":
            if options.continues_from is not None:
                # The whole checkpoint is loaded later (training/run_start.py), but the features are found here.
                load_backbone(network, options.continues_from, options)
            freeze(network, learned=(HEAD_PREFIX,))
            return head_module(network, paths.set_dir, task, rank)
        return super().trained_module(network, options, paths, task, rank)


class SupervisedMethod(LabelMethod[TrainOptions]):
    """The method of the job train."""

    def task(self, options: TrainOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        return supervised_task(options, paths.set_dir, manifest, rank.device)
