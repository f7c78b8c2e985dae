"""Supervised training: labels only."""

import torch

from longtail.conf.options.training import SupervisedOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.manifest import Manifest
from longtail.data.storage import PathOrUrl
from longtail.training.objective import Task, classification_objective
from longtail.training.samples import load_samples
from longtail.training.training_data import labelled_data


def supervised_task(options: SupervisedOptions, set_dir: PathOrUrl, manifest: Manifest, device: torch.device) -> Task:
    """Learn the labels of the labelled part."""
    labelled = load_samples(options, set_dir, TRAIN, manifest)
    data = labelled_data(options, labelled, labelled, set_dir, manifest, device)
    return Task(data, classification_objective(options, data.rule_counts, device))
