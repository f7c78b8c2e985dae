"""Residual networks for large images: torchvision's, for any number of channels and with any head.

The resolution falls by a factor of 32 before the pooling, made for images of about 224x224. Smaller ones work from 8x8
on, but soon become a single pixel. The names of the parameters are torchvision's, which are those of the published
checkpoints.
"""

from functools import partial

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from longtail.models.heads import new_head
from longtail.models.network import Network

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class LargeImageResNet(Network, ResNet):
    """The backbone and a head, ``fc``, that maps (N, num_features) features to (N, num_classes) logits."""

    def __init__(
        self,
        *,
        block: str,
        blocks_per_stage: tuple[int, int, int, int],
        in_channels: int,
        head: nn.Module,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__(BLOCKS[block], list(blocks_per_stage), groups=groups, width_per_group=width_per_group)
        if in_channels != self.conv1.in_channels:
            self.conv1 = nn.Conv2d(in_channels, self.conv1.out_channels, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.fc = head

    def features(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised images to (N, num_features) features."""
        x = self.relu(self.bn1(self.conv1(images)))  # (N, 64, H/2, W/2)
        x = self.maxpool(x)  # (N, 64, H/4, W/4)
        x = self.layer1(x)  # (N, w, H/4, W/4), w = 64, or 256 with bottlenecks
        x = self.layer2(x)  # (N, 2w, H/8, W/8)
        x = self.layer3(x)  # (N, 4w, H/16, W/16)
        x = self.layer4(x)  # (N, 8w, H/32, W/32)
        return x.mean(dim=(2, 3))  # (N, 8w)


def large_image_resnet(
    *,
    num_classes: int,
    in_channels: int,
    head: str = "linear",
    block: str,
    blocks_per_stage: tuple[int, int, int, int],
    groups: int = 1,
    width_per_group: int = 64,
) -> LargeImageResNet:
    """A network of 512 features (basic blocks) or 2048 (bottlenecks)."""
    return LargeImageResNet(
        block=block,
        blocks_per_stage=blocks_per_stage,
        in_channels=in_channels,
        head=new_head(head, 512 * BLOCKS[block].expansion, num_classes),
        groups=groups,
        width_per_group=width_per_group,
    )


resnet10 = partial(large_image_resnet, block="basic", blocks_per_stage=(1, 1, 1, 1))
resnet18 = partial(large_image_resnet, block="basic", blocks_per_stage=(2, 2, 2, 2))
resnet34 = partial(large_image_resnet, block="basic", blocks_per_stage=(3, 4, 6, 3))
resnet50 = partial(large_image_resnet, block="bottleneck", blocks_per_stage=(3, 4, 6, 3))
resnet101 = partial(large_image_resnet, block="bottleneck", blocks_per_stage=(3, 4, 23, 3))
resnext50_32x4d = partial(
    large_image_resnet, block="bottleneck", blocks_per_stage=(3, 4, 6, 3), groups=32, width_per_group=4
)
