"""What is exported: a classifier that takes raw pixels, and its description."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from longtail.models.network import Network
from longtail.training.checkpoint_metadata import CheckpointMetadata

INPUT, OUTPUT = "images", "logits"


class RawPixelClassifier(nn.Module):
    """A network with its normalisation inside: (N, height, width, channels) uint8 pixels to (N, C) float32 logits."""

    def __init__(self, network: Network, metadata: CheckpointMetadata) -> None:
        super().__init__()
        self.network = network
        self.logit_scale = metadata.logit_scale
        # Of pixels in [0, 1].
        self.register_buffer("mean", torch.tensor(metadata.normalisation.mean).view(1, -1, 1, 1))
        scaling = metadata.calibration.scaling if metadata.calibration else None
        self.temperature = scaling.temperature if scaling else 1.0
        self.register_buffer("biases", torch.tensor(scaling.biases if scaling else [0.0] * len(metadata.class_names)))
        self.register_buffer("std", torch.tensor(metadata.normalisation.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes; their softmax is the probabilities."""
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 255  # (N, channels, height, width)
        normalised = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        logits = self.logit_scale * self.network.fc(self.network.features(normalised))
        return logits / self.temperature + self.get_buffer("biases")


def description(metadata: CheckpointMetadata, *, version: str) -> dict[str, Any]:
    """All that a program needs to know beside the weights, as JSON values.

    version: SHA-256 of the checkpoint
    """
    return {
        "format_version": 1,
        "model_version": version,
        "run": metadata.run,
        "arch": metadata.arch,
        "head": metadata.head,
        "logit_scale": metadata.logit_scale,
        "class_names": metadata.class_names,
        "class_counts": metadata.class_counts,
        "image_shape": list(metadata.image_shape),
        "normalisation": asdict(metadata.normalisation),
        "calibration": asdict(metadata.calibration.scaling) if metadata.calibration else None,
        "input": f"{INPUT}: uint8 (N, height, width, channels)",
        "output": f"{OUTPUT}: float32 (N, classes)",
    }
