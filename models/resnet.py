"""Residual networks for small images (He et al. 2016, section 4.2).

Depth 6n + 2: a 3x3 convolution, three stages of n basic blocks with 16, 32 and
64 channels, global average pooling. Shortcuts have no parameters ("option A"):
where a stage halves the resolution, the shortcut takes every second pixel and
pads the channels with zeros. Any input of at least 4x4 pixels fits.

The names of the parameters (conv1, bn1, layer1.0.conv1, ..., fc) are those of
the published checkpoints.

resnet20_s2 is ours, for computers without a GPU: its first convolution has 4x4
pixels and stride 2, so that all stages work at half the height and width.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from longtail.models.heads import new_head
from longtail.models.network import Network

STAGE_CHANNELS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.extra_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.extra_channels == 0:
            return x
        before = self.extra_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra_channels - before))


class SmallImageResNet(Network):
    """The backbone and a head, ``fc``, that maps (N, 64) features to (N, num_classes) logits."""

    def __init__(self, *, blocks_per_stage: int, in_channels: int, head: nn.Module, first_stride: int = 1) -> None:
        super().__init__()
        width = STAGE_CHANNELS[0]
        # A window of an even side is centred on the pixels that it replaces by one.
        self.conv1 = nn.Conv2d(in_channels, width, 2 + first_stride, stride=first_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, STAGE_CHANNELS[0], blocks_per_stage, stride=1)
        self.layer2 = _stage(STAGE_CHANNELS[0], STAGE_CHANNELS[1], blocks_per_stage, stride=2)
        self.layer3 = _stage(STAGE_CHANNELS[1], STAGE_CHANNELS[2], blocks_per_stage, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.fc = head

    def features(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised images to (N, 64) features."""
        x = F.relu(self.bn1(self.conv1(images)))  # (N, 16, H, W), with first_stride 2 halved from here on
        x = self.layer1(x)  # (N, 16, H, W)
        x = self.layer2(x)  # (N, 32, H/2, W/2)
        x = self.layer3(x)  # (N, 64, H/4, W/4)
        return x.mean(dim=(2, 3))  # (N, 64)


def _stage(in_channels: int, out_channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1)))


def small_image_resnet(
    *, num_classes: int, in_channels: int, head: str = "linear", blocks_per_stage: int, first_stride: int = 1
) -> SmallImageResNet:
    """A network of depth 6 * blocks_per_stage + 2; first_stride: 1 or 2, of the first convolution."""
    new = new_head(head, STAGE_CHANNELS[-1], num_classes)
    return SmallImageResNet(
        blocks_per_stage=blocks_per_stage, in_channels=in_channels, head=new, first_stride=first_stride
    )


resnet20 = partial(small_image_resnet, blocks_per_stage=3)
resnet20_s2 = partial(small_image_resnet, blocks_per_stage=3, first_stride=2)
resnet32 = partial(small_image_resnet, blocks_per_stage=5)
resnet44 = partial(small_image_resnet, blocks_per_stage=7)
resnet56 = partial(small_image_resnet, blocks_per_stage=9)
resnet110 = partial(small_image_resnet, blocks_per_stage=18)
