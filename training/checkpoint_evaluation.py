"""Evaluation of a checkpoint by one rank, without training."""

from typing import Any

import torch

from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.class_names import class_order
from longtail.data.manifest import read_manifest
from longtail.models.heads import ReorderedHead
from longtail.models.network import Network
from longtail.training.checkpoint_heads import check_foreign_classifier, check_phase, head_of_checkpoint
from longtail.training.checkpoints import (
    load_checkpoint,
)
from longtail.training.distributed import Rank
from longtail.training.evaluation import evaluate_all, predict_all, split_features
from longtail.training.finite import check_totals
from longtail.training.losses import log_priors, logit_scale_of
from longtail.training.metrics import Predictions
from longtail.training.networks import load_into, new_network
from longtail.training.objective import Task
from longtail.training.run_directory import RunPaths
from longtail.training.run_result import run_result
from longtail.training.supervised import supervised_task


def run_evaluation(options: TrainOptions, paths: RunPaths, rank: Rank) -> dict[str, Any]:
    """Evaluate the checkpoint of --resume on the held-out splits, without training; returns the result.

    Rank 0 writes the files of --features and --tsne, and nothing else.
    """
    assert options.resume is not None
    # Held-out images alone are evaluated, whatever the checkpoint learned from.
    manifest = read_manifest(paths.set_dir)
    task = supervised_task(options, paths.set_dir, manifest, rank.device)
    checkpoint = load_checkpoint(options.resume)
    check_phase(checkpoint, path=options.resume)
    metadata, order = checkpoint.metadata, None
    if metadata is None:
        check_foreign_classifier(checkpoint, path=options.resume, num_classes=task.data.num_classes)
        head = head_of_checkpoint(checkpoint)
        task = task.with_objective(head=head, logit_scale=logit_scale_of(head, options))
    else:
        order = class_order(metadata.class_names, task.data.class_names, file=options.resume, of=paths.set_dir)
        metadata = metadata.in_order(order)
        temperature = metadata.calibration.scaling.temperature if metadata.calibration else 1.0
        task = task.with_objective(head=metadata.head, logit_scale=metadata.logit_scale / temperature)
        task = task.with_data(class_counts=metadata.class_counts, pseudo_label_round=metadata.pseudo_label_round)
    model = new_network(options, task, rank)
    load_into(model, options.resume, options)
    if order is not None:
        model.fc = ReorderedHead(model.fc, order).to(rank.device)
    adjustment = None
    if options.logit_adjustment is not None:
        # The class counts that the weights were trained with; a checkpoint of another origin has none.
        priors = log_priors(metadata.rule_counts if metadata else task.data.rule_counts)
        adjustment = options.logit_adjustment * priors.to(rank.device)
    if metadata and metadata.calibration:
        biases = torch.tensor(metadata.calibration.scaling.biases, device=rank.device)
        adjustment = -biases if adjustment is None else adjustment - biases
    totals = evaluate_all(model, task, rank, adjustment=adjustment)
    check_totals(totals, when=f"with {options.resume}", remedy="evaluate another checkpoint")
    predictions = predict_all(model, task, rank, adjustment=adjustment)
    if options.features or options.tsne:
        _export_features(options, model, task, rank, predictions)
    run = options.resume.parent.name
    return run_result(
        run,
        task,
        phase=options.phase,
        epoch=checkpoint.epoch,
        totals=totals,
        predictions=predictions,
        best=checkpoint.best_on(manifest.identity),
        manifest=manifest,
    )


def _export_features(
    options: TrainOptions, model: Network, task: Task, rank: Rank, predictions: dict[str, Predictions]
) -> None:
    # Imported here, as scikit-learn and matplotlib take seconds to load.
    from longtail.training.features import write_features, write_tsne_plot

    features = {split: split_features(model, samples, task, rank) for split, samples in task.data.held_out.items()}
    if not rank.is_first:
        return
    if options.features:
        write_features(options.features, task.data.held_out, predictions, features)
    if options.tsne:
        write_tsne_plot(options.tsne, task.data.held_out[TEST], features[TEST], task.data, seed=options.seed)
