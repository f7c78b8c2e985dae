"""A resnet20 whose batches take longer, and nearly all of that without work: for tests that watch a training."""

import time

from torch import nn

from longtail.models.build import build_model

BATCH_SECONDS = 0.1


def slow(*, num_classes: int, in_channels: int) -> nn.Module:
    network = build_model("resnet20", num_classes=num_classes, in_channels=in_channels)
    network.register_forward_pre_hook(lambda *_: time.sleep(BATCH_SECONDS))
    return network
