"""Wide residual networks for small images (Zagoruyko & Komodakis 2016), the network of semi-supervised comparisons.

Depth 6n + 4 and widening factor k: a 3x3 convolution, three stages of n
pre-activation blocks with 16k, 32k and 64k channels, batch norm, global average
pooling. As in MixMatch and FixMatch (Berthelot et al. 2019, Sohn et al. 2020) the
activation leaks, and where the first block of a stage changes the number of channels
its shortcut is a 1x1 convolution: of the activated input in the first stage, of the
input itself in the others. Any input of at least 4x4 pixels fits. The papers give a batch
a weight of 0.001 in the running statistics of batch norm; short trainings need more (--bn_momentum).

The names of the parameters (conv1, block1.layer.0.conv1, ..., bn1, fc) are those
of the PyTorch checkpoints that the field shares.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from longtail.models.heads import new_head
from longtail.models.network import Network

FIRST_CHANNELS = 16
LEAK = 0.1
"""Slope of the activation below 0."""
EPSILON = 1e-3
"""Of batch norm."""


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU with slope LEAK."""
    return F.leaky_relu(x, LEAK)


class PreActivationBlock(nn.Module):
    """Batch norm, activation and a 3x3 convolution, twice, and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, shortcut_of_activated: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, eps=EPSILON)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=EPSILON)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.convShortcut = None
        if in_channels != out_channels:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        self._shortcut_of_activated = shortcut_of_activated

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        first = activated(self.bn1(x))
        out = self.conv2(activated(self.bn2(self.conv1(first))))
        shortcut = first if self._shortcut_of_activated else x
        return out + (shortcut if self.convShortcut is None else self.convShortcut(shortcut))


class Stage(nn.Module):
    """Blocks of one width; the first one may halve the resolution."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, *, stride: int, is_first: bool) -> None:
        super().__init__()
        first = PreActivationBlock(in_channels, out_channels, stride, shortcut_of_activated=is_first)
        rest = (
            PreActivationBlock(out_channels, out_channels, 1, shortcut_of_activated=False)
            for _ in range(num_blocks - 1)
        )
        self.layer = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        return self.layer(x)


class WideResNet(Network):
    """The backbone and a head, ``fc``, that maps (N, 64 * widening) features to (N, num_classes) logits."""

    def __init__(self, *, depth: int, widening: int, in_channels: int, head: nn.Module) -> None:
        super().__init__()
        assert (depth - 4) % 6 == 0, depth
        num_blocks = (depth - 4) // 6
        first, second, third = (FIRST_CHANNELS * widening * 2**stage for stage in range(3))
        self.conv1 = nn.Conv2d(in_channels, FIRST_CHANNELS, 3, padding=1, bias=False)
        self.block1 = Stage(FIRST_CHANNELS, first, num_blocks, stride=1, is_first=True)
        self.block2 = Stage(first, second, num_blocks, stride=2, is_first=False)
        self.block3 = Stage(second, third, num_blocks, stride=2, is_first=False)
        self.bn1 = nn.BatchNorm2d(third, eps=EPSILON)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        self.fc = head

    def features(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised images to (N, 64 * widening) features."""
        x = self.conv1(images)  # (N, 16, H, W)
        x = self.block1(x)  # (N, 16k, H, W)
        x = self.block2(x)  # (N, 32k, H/2, W/2)
        x = self.block3(x)  # (N, 64k, H/4, W/4)
        return activated(self.bn1(x)).mean(dim=(2, 3))  # (N, 64k)


def wrn28_2(*, num_classes: int, in_channels: int, head: str = "linear") -> WideResNet:
    """WRN-28-2: depth 28, widening 2, 128 features."""
    new = new_head(head, FIRST_CHANNELS * 2 * 4, num_classes)
    return WideResNet(depth=28, widening=2, in_channels=in_channels, head=new)
