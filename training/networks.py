"""The network of a training: made from the options, or from a checkpoint."""

import torch
from torch import nn

from longtail.conf.base.locations import Location
from longtail.conf.options.training import RunOptions
from longtail.data.manifest import Manifest
from longtail.models.build import build_checked_model
from longtail.models.network import Network
from longtail.models.timm_network import TimmNetwork
from longtail.training.checkpoint_heads import check_kind_of_head
from longtail.training.checkpoints import (
    Checkpoint,
    check_architecture,
    checkpoint_content,
    checkpoint_in,
    is_of_longtail,
    load_checkpoint,
    load_weights,
    tensors_in,
)
from longtail.training.distributed import Rank
from longtail.training.objective import Task
from longtail.training.timm_weights import load_timm_weights


def new_network(options: RunOptions, task: Task, rank: Rank) -> Network:
    """The network of --arch with the objective's head, freshly initialised."""
    torch.manual_seed(options.seed)
    data, objective = task.data, task.objective
    model = build_checked_model(
        options.arch,
        num_outputs=objective.num_outputs or data.num_classes,
        image_shape=data.train.image_shape,
        head=objective.head,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = options.bn_momentum
    return network_to_device(model, rank)


def network_to_device(network: Network, rank: Rank) -> Network:
    """Move the network to the rank's device, with its weights channels last in memory."""
    # In two steps, as the types of torch know no call that does both.
    return network.to(rank.device).to(memory_format=torch.channels_last)


def load_backbone(network: Network, path: Location, options: RunOptions) -> None:
    """Copy the weights of --pretrained_model, but those of its head. Raises UserError if they do not fit."""
    content = checkpoint_content(path)
    if isinstance(network, TimmNetwork) and not is_of_longtail(content):
        load_timm_weights(network, tensors_in(content, path=path), arch=options.arch, path=path)
        return
    checkpoint = checkpoint_in(content, path=path)
    check_architecture(checkpoint, options.arch, path=path)
    load_weights(network, checkpoint, path=path, backbone_only=True)


def backbone_alone(options: RunOptions, manifest: Manifest) -> Network:
    """The network with the backbone of the file that the options name, and a head with random weights.

    Raises UserError if the file does not fit the network.
    """
    assert options.frozen_backbone is not None, "the options are checked"
    height, width, channels = manifest.image_shape
    network = build_checked_model(
        options.arch, num_outputs=manifest.num_classes, image_shape=(channels, height, width)
    )  # fmt: skip
    load_backbone(network, options.frozen_backbone, options)
    return network.eval()


def load_into(network: nn.Module, path: Location, options: RunOptions) -> Checkpoint:
    """Read a checkpoint and copy its weights. Raises UserError if it does not fit the network."""
    checkpoint = load_checkpoint(path)
    check_architecture(checkpoint, options.arch, path=path)
    check_kind_of_head(checkpoint, network.state_dict(), path=path)
    load_weights(network, checkpoint, path=path)
    return checkpoint
