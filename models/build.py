"""Build a network by its name: built in (conf/networks.py), of timm, or `package.module:factory` of a user's own."""

import inspect
from typing import TypeGuard

import torch
from torch import Tensor, nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.user_code import call_code, load_code
from longtail.conf.networks import NETWORKS, is_timm_name
from longtail.models.heads import new_head
from longtail.models.network import Network
from longtail.models.timm_network import timm_network

OPTION = "-a"
SMALLEST_SIDE = 4
"""Of the images, in pixels: a random crop of smaller ones would be mostly its border."""


def build_model(arch: str, *, num_classes: int, in_channels: int, head: str = "linear") -> Network:
    """A network with its head (a key of models.heads.HEADS), freshly initialised.

    arch: a key of conf.networks.NETWORKS, or `package.module:factory`; models/network.py describes the factory

    Raises UserError if a factory of the user's cannot be found or does not make such a network.
    """
    factory = load_code(NETWORKS.get(arch, arch), option=OPTION)
    arguments = {"num_classes": num_classes, "in_channels": in_channels}
    makes_head = _takes_head(factory)
    if makes_head:
        network = call_code(factory, **arguments, head=head, name=arch, option=OPTION)
    else:
        network = call_code(factory, **arguments, name=arch, option=OPTION)
    if not _is_network(network):
        raise UserError(
            f"{OPTION} {arch}: a factory returns a torch module with features(images) and a head fc, "
            f"this one a {type(network).__name__} without"
        )
    if not makes_head:
        if not isinstance(network.fc, nn.Linear):
            raise UserError(f"{OPTION} {arch}: fc must be an nn.Linear, so that other heads can replace it")
        if head != "linear":
            network.fc = new_head(head, network.fc.in_features, num_classes)
    return network


def build_checked_model(
    arch: str, *, num_outputs: int, image_shape: tuple[int, int, int], head: str = "linear"
) -> Network:
    """As build_model or, for timm:NAME, timm_network, for images of shape (channels, height, width).

    A network that is not built in is tried out on two images. Raises UserError if the images are too small.
    """
    height, width = image_shape[1:]
    if arch in NETWORKS and min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f"{OPTION} {arch} needs images from {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, these have {height}x{width}: "
            f"prepare larger ones"
        )
    if is_timm_name(arch):
        network: Network = timm_network(arch, num_classes=num_outputs, image_shape=image_shape, head=head)
    else:
        network = build_model(arch, num_classes=num_outputs, in_channels=image_shape[0], head=head)
    if arch not in NETWORKS:
        _check_network(network, arch, num_outputs=num_outputs, image_shape=image_shape)
    return network


@torch.no_grad()
def _check_network(network: Network, arch: str, *, num_outputs: int, image_shape: tuple[int, int, int]) -> None:
    """Run the network on two blank images and check the shapes that it returns.

    Raises UserError if features are not (2, D) or outputs are not (2, num_outputs).
    """
    was_training = network.training
    network.eval()  # so that batch norm keeps its statistics
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    images = torch.zeros(2, *image_shape, device=device)
    _check_shape("features(images)", call_code(network.features, images, name=arch, option=OPTION), arch, (2, None))
    _check_shape("the network", call_code(network, images, name=arch, option=OPTION), arch, (2, num_outputs))
    network.train(was_training)


def num_features(network: Network) -> int:
    """Width of the features, as the head takes them."""
    assert isinstance(network.fc.in_features, int)
    return network.fc.in_features


def _takes_head(factory: object) -> bool:
    assert callable(factory)
    return "head" in inspect.signature(factory).parameters


def _is_network(network: object) -> TypeGuard[Network]:
    has_parts = isinstance(getattr(network, "fc", None), nn.Module) and callable(getattr(network, "features", None))
    return isinstance(network, nn.Module) and has_parts


def _check_shape(what: str, found: object, arch: str, expected: tuple[int, int | None]) -> None:
    rows, columns = expected
    if isinstance(found, Tensor) and found.dim() == 2 and len(found) == rows and columns in (None, found.shape[1]):
        return
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise UserError(
        f"{OPTION} {arch}: for 2 images {what} must return shape (2, {columns or 'D'}), it returned {shape}"
    )
