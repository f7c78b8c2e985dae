"""Every network by its name (-a), and how it is built.

A network has ``features(images)``, (N, channels, H, W) -> (N, num_features), and
a head ``fc``; called, it is the one after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.heads import HEADS
from models.large_resnet import LargeImageResNet
from models.resnet import BLOCKS_PER_STAGE, STAGE_CHANNELS, SmallImageResNet
from models.wide_resnet import WideResNet


@dataclass(frozen=True)
class Architecture:
    """Width of the features, and what makes the network of in_channels and head."""

    num_features: int
    build: Callable[..., nn.Module]


def _large(block: type[BasicBlock | Bottleneck], *blocks_per_stage: int, **width: int) -> Architecture:
    build = partial(LargeImageResNet, block=block, blocks_per_stage=blocks_per_stage, **width)
    return Architecture(512 * block.expansion, build)


ARCHITECTURES = {
    **{
        arch: Architecture(STAGE_CHANNELS[-1], partial(SmallImageResNet, blocks_per_stage=blocks))
        for arch, blocks in BLOCKS_PER_STAGE.items()
    },
    "wrn28_2": Architecture(128, partial(WideResNet, depth=28, widening=2)),
    "resnet10": _large(BasicBlock, 1, 1, 1, 1),
    "resnet18": _large(BasicBlock, 2, 2, 2, 2),
    "resnet34": _large(BasicBlock, 3, 4, 6, 3),
    "resnet50": _large(Bottleneck, 3, 4, 6, 3),
    "resnet101": _large(Bottleneck, 3, 4, 23, 3),
    "resnext50_32x4d": _large(Bottleneck, 3, 4, 6, 3, groups=32, width_per_group=4),
}


def build_model(arch: str, *, num_classes: int, in_channels: int, head: str = "linear") -> nn.Module:
    """A network (a key of ARCHITECTURES) with its head (a key of HEADS), freshly initialised."""
    architecture = ARCHITECTURES[arch]
    return architecture.build(in_channels=in_channels, head=HEADS[head](architecture.num_features, num_classes))
