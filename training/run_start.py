"""Where a training begins: at the run's own last checkpoint, at another one, or at the first epoch."""

import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.training import RunOptions
from longtail.data.class_names import check_same_order
from longtail.data.manifest import read_manifest
from longtail.training.checkpoint_heads import check_foreign_classifier, check_foreign_pretraining, check_phase
from longtail.training.checkpoint_metadata import BestEpoch
from longtail.training.checkpoints import (
    load_checkpoint,
    load_companion,
)
from longtail.training.networks import load_into
from longtail.training.objective import Task
from longtail.training.optimizer_state import load_momentum
from longtail.training.run_directory import CHECKPOINT_FILE, RunPaths


def restore(
    model: nn.Module,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    task: Task,
    options: RunOptions,
    paths: RunPaths,
) -> tuple[int, BestEpoch | None]:
    """Load the checkpoint that the run starts from; returns the first epoch to train (from 0) and the best so far.

    The run's own last checkpoint takes precedence (the same command resumes it), then --resume; without either,
    nothing is loaded.
    """
    own = paths.run_dir / CHECKPOINT_FILE
    source = own if own.exists() else options.continues_from
    if source is not None:
        _check_classes(source, task, options, paths)
        checkpoint = load_into(network, source, options)
        load_companion(model, network, checkpoint, path=source)
        if optimizer and checkpoint.optimizer is None:
            raise UserError(f"{source} has no optimizer state to resume from: give it as --pretrained_model")
        if checkpoint.epoch > options.epochs:
            raise UserError(f"{source} has {checkpoint.epoch} finished epochs: raise --epochs ({options.epochs})")
        if optimizer and checkpoint.optimizer:
            load_momentum(optimizer, checkpoint.optimizer, path=source)
        # Scores of another set's validation images are no measure for this one's.
        return checkpoint.epoch, checkpoint.best_on(read_manifest(paths.set_dir).identity)
    return 0, None


def _check_classes(path: Location, task: Task, options: RunOptions, paths: RunPaths) -> None:
    """Raise UserError if the training cannot go on from a checkpoint, as its classes or their order are others."""
    checkpoint = load_checkpoint(path)
    check_phase(checkpoint, path=path, phase=options.phase)
    metadata = checkpoint.metadata
    if options.phase in PRETRAININGS:
        if metadata is None:
            check_foreign_pretraining(checkpoint, path=path, phase=options.phase)
        return
    if metadata is None:
        check_foreign_classifier(checkpoint, path=path, num_classes=task.data.num_classes)
        return
    check_same_order(
        metadata.class_names,
        task.data.class_names,
        file=path,
        of=paths.set_dir,
        remedy="a training goes on in the order that it began with; prepare the set in that order, or train anew",
    )
