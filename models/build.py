"""Every network by its name (-a), and how it is built.

A network has ``features(images)``, (N, channels, H, W) -> (N, num_features), and
a head ``fc``; called, it is the one after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from longtail.models.heads import HEADS
from longtail.models.resnet import BLOCKS_PER_STAGE, STAGE_CHANNELS, SmallImageResNet
from longtail.models.wide_resnet import WideResNet


@dataclass(frozen=True)
class Architecture:
    """Width of the features, and what makes the network of in_channels and head."""

    num_features: int
    build: Callable[..., nn.Module]


def _basic(*blocks_per_stage: int) -> Architecture:
    return Architecture(512, partial(_large_image_network, block="basic", blocks_per_stage=blocks_per_stage))


def _bottleneck(*blocks_per_stage: int, **width: int) -> Architecture:
    build = partial(_large_image_network, block="bottleneck", blocks_per_stage=blocks_per_stage, **width)
    return Architecture(2048, build)


def _large_image_network(**arguments: Any) -> nn.Module:
    from longtail.models.large_resnet import (
        LargeImageResNet,  # torchvision takes a second to import: only who needs it waits
    )

    return LargeImageResNet(**arguments)


ARCHITECTURES = {
    **{
        arch: Architecture(STAGE_CHANNELS[-1], partial(SmallImageResNet, blocks_per_stage=blocks))
        for arch, blocks in BLOCKS_PER_STAGE.items()
    },
    "wrn28_2": Architecture(128, partial(WideResNet, depth=28, widening=2)),
    "resnet10": _basic(1, 1, 1, 1),
    "resnet18": _basic(2, 2, 2, 2),
    "resnet34": _basic(3, 4, 6, 3),
    "resnet50": _bottleneck(3, 4, 6, 3),
    "resnet101": _bottleneck(3, 4, 23, 3),
    "resnext50_32x4d": _bottleneck(3, 4, 6, 3, groups=32, width_per_group=4),
}


def build_model(arch: str, *, num_classes: int, in_channels: int, head: str = "linear") -> nn.Module:
    """A network (a key of ARCHITECTURES) with its head (a key of HEADS), freshly initialised."""
    architecture = ARCHITECTURES[arch]
    return architecture.build(in_channels=in_channels, head=HEADS[head](architecture.num_features, num_classes))
