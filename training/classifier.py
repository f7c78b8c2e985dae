"""The second stage of decoupled training: another classifier on a frozen backbone (Kang et al. 2020, section 4).

- cRT: a fresh head, trained again, by default on class-balanced draws;
- LWS: the head as it is, with one learned scale per class;
- tau: the head's weights over their norm to the power tau, without bias; nothing is trained;
- NCM: the cosine to the mean feature of each class; nothing is trained.

The result is a network like any other, for evaluation and labelling alike.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.vocabulary import VAL
from longtail.data.class_names import check_same_order
from longtail.data.manifest import Manifest
from longtail.models.build import build_checked_model
from longtail.models.heads import CosineHead
from longtail.models.network import Network
from longtail.training.checkpoint_heads import check_foreign_classifier
from longtail.training.checkpoints import HEAD_PREFIX, Checkpoint, check_architecture, load_checkpoint, load_weights
from longtail.training.distributed import Rank
from longtail.training.feature_training import head_module
from longtail.training.kept_features import KeptFeatures
from longtail.training.losses import logit_scale_of
from longtail.training.method import TrainingMethod
from longtail.training.networks import network_to_device
from longtail.training.objective import Task
from longtail.training.run_directory import RunPaths
from longtail.training.supervised import supervised_task
from longtail.training.tuning import freeze

TAU_GRID = tuple(step / 10 for step in range(21))
"""Candidates for tau on validation data: 0 to 2."""


class ClassifierMethod(TrainingMethod[TrainClassifierOptions]):
    """The method of the job train_classifier."""

    def task(self, options: TrainClassifierOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        return supervised_task(options, paths.set_dir, manifest, rank.device)

    def network(self, options: TrainClassifierOptions, task: Task, rank: Rank) -> tuple[Task, Network]:
        return second_stage(options, task, rank)

    def trained_module(
        self, network: Network, options: TrainClassifierOptions, paths: RunPaths, task: Task, rank: Rank
    ) -> tuple[Task, nn.Module]:
        """The network; or its head alone, on kept features."""
        if options.kept_features:
            return head_module(network, paths.set_dir, task, rank)
        if options.method in ("tau", "NCM"):
            return with_computed_classifier(network, options, paths.set_dir, task, rank), network
        return task, network


def second_stage(options: TrainClassifierOptions, task: Task, rank: Rank) -> tuple[Task, Network]:
    """The network for the classifier of --method with the backbone of --resume, and the task with its head.

    Only the parameters that are still to be learned require gradients. Those of a classifier that is computed are
    still to be computed (with_computed_classifier).

    Raises UserError if the checkpoint does not fit, or if tau would have to be chosen without validation data.
    """
    path, checkpoint = options.resume, load_checkpoint(options.resume)
    check_architecture(checkpoint, options.arch, path=path)
    match options.method:
        case "cRT":
            model = _network(task.objective.head, options, task, rank)
            load_weights(model, checkpoint, path=path, backbone_only=True)
            freeze(model, learned=(HEAD_PREFIX,))
            return task.with_objective(has_frozen_layers=True), model
        case "LWS":
            model = _network("scaled", options, task, rank)
            _need_linear_head(checkpoint, path, options, task)
            scales = {f"{HEAD_PREFIX}scales": torch.ones(task.data.num_classes)}
            with_scales = replace(checkpoint, state_dict={**checkpoint.state_dict, **scales})
            load_weights(model, with_scales, path=path)
            freeze(model, learned=(f"{HEAD_PREFIX}scales",))
            return _with_head(task, "scaled", options).with_objective(has_frozen_layers=True), model
        case "tau":
            model = _network("linear", options, task, rank)
            _need_linear_head(checkpoint, path, options, task)
            if options.tau_norm is None and VAL not in task.data.held_out:
                raise UserError(
                    "tau is chosen on validation data, which this set lacks: give --val_fraction, or --tau_norm"
                )
            load_weights(model, checkpoint, path=path)
            freeze(model, learned=())
            return _with_head(task, "linear", options), model
        case "NCM":
            model = _network("cosine", options, task, rank)
            load_weights(model, checkpoint, path=path, backbone_only=True)
            freeze(model, learned=())
            return _with_head(task, "cosine", options), model
    raise AssertionError(options.method)


@torch.no_grad()
def with_computed_classifier(
    network: Network, options: TrainClassifierOptions, set_dir: Location, task: Task, rank: Rank
) -> Task:
    """Compute the classifier of tau or NCM in the network of second_stage(); the task says which tau was chosen."""
    head, data = network.fc, task.data
    if options.method == "NCM":
        assert isinstance(head, CosineHead)
        features = KeptFeatures(network, data, set_dir, rank).of_training()
        head.weight.copy_(class_means(features, data.train.labels, num_classes=data.num_classes).T)
        return task
    assert isinstance(head, nn.Linear)
    tau = options.tau_norm
    if tau is None:
        features = KeptFeatures(network, data, set_dir, rank).of_held_out(VAL)
        tau = choose_tau(head.weight, features, data.held_out[VAL].labels)
        task = task.with_objective(chosen={"tau_norm": tau})
    head.weight.copy_(tau_normalised(head.weight, tau))
    head.bias.zero_()
    return task


def class_means(features: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """(C, D) mean of the features (N, D) of each class of labels (N,); zeros for a class without any."""
    sums = features.new_zeros(num_classes, features.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, features.double())
    return (sums / labels.bincount(minlength=num_classes).clamp(min=1)[:, None]).float()


def _with_head(task: Task, head: str, options: TrainClassifierOptions) -> Task:
    return task.with_objective(head=head, logit_scale=logit_scale_of(head, options))


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """(C, D) class weights w_i / |w_i|^tau (Kang et al. 2020, eq. 4); 0 keeps them, 1 gives all the same norm."""
    return weight / weight.norm(dim=1, keepdim=True) ** tau


def choose_tau(weight: Tensor, features: Tensor, labels: Tensor) -> float:
    """The tau of TAU_GRID with the best balanced accuracy; the smallest of ties.

    weight: (C, D); features: (N, D) and labels: (N,) of the validation data
    """
    support = labels.bincount(minlength=len(weight))  # (C,)

    def balanced_accuracy(tau: float) -> float:
        predicted = (features @ tau_normalised(weight, tau).T).argmax(dim=1)  # (N,)
        correct = labels[predicted == labels].bincount(minlength=len(weight))  # (C,)
        return (correct[support > 0] / support[support > 0]).mean().item()

    return max(TAU_GRID, key=balanced_accuracy)


def _network(head: str, options: TrainClassifierOptions, task: Task, rank: Rank) -> Network:
    torch.manual_seed(options.seed)
    data = task.data
    model = build_checked_model(
        options.arch, num_outputs=data.num_classes, image_shape=data.train.image_shape, head=head
    )  # fmt: skip
    return network_to_device(model, rank)


def _need_linear_head(checkpoint: Checkpoint, path: Location, options: TrainClassifierOptions, task: Task) -> None:
    """Raise UserError unless the checkpoint has a linear classifier, of the task's classes."""
    if f"{HEAD_PREFIX}bias" not in checkpoint.state_dict:
        raise UserError(f"--method {options.method} needs a linear classifier, {path} has none: choose cRT or NCM")
    if (metadata := checkpoint.metadata) is None:
        check_foreign_classifier(checkpoint, path=path, num_classes=task.data.num_classes)
    else:
        check_same_order(
            metadata.class_names,
            task.data.class_names,
            file=path,
            of="the prepared set",
            remedy="--method cRT and NCM take the backbone alone",
        )
