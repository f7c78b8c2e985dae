"""The small network of the checkpoint in tests/written_by_0.2/: its file is small, too."""

import torch
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """Mean of four filters over the image, and a linear head."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return torch.relu(self.conv1(images)).mean(dim=(2, 3))  # (N, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


def small(*, num_classes: int, in_channels: int) -> SmallNetwork:
    return SmallNetwork(num_classes, in_channels)
