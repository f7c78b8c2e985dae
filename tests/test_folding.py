"""Batch normalisations folded into convolutions (models/folding.py)."""

import copy

import pytest
import torch
from torch import Tensor, nn

from longtail.models.build import build_model
from longtail.models.folding import fold_batch_norms

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (3, 16, 16)


def with_statistics(network: nn.Module) -> nn.Module:
    """The network as if trained: its normalisations change what they get."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                assert values is not None
                values.data = torch.rand(values.shape, generator=generator) + 0.5
    return network.eval()


@pytest.mark.parametrize(("arch", "folded"), [("resnet20", 19), ("wrn28_2", 13), ("resnet18", 20)])
def test_a_folded_network_gives_the_same_outputs(arch: str, folded: int) -> None:
    network = with_statistics(build_model(arch, num_classes=5, in_channels=3))
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2))
    before, normalisations = network(images), [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert fold_batch_norms(network, SHAPE) == folded
    left = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) == len(normalisations) - folded
    assert (network(images) - before).abs().max() < 1e-5 * before.abs().max()


class BesideItsNormalisation(nn.Module):
    """The convolution's output is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        found = self.convolution(images)
        return self.fc((found + self.norm(found)).mean(dim=(2, 3)))


class Twice(BesideItsNormalisation):
    """The convolution is used twice, its normalisation once."""

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((self.norm(self.convolution(images)) + self.convolution(images)).mean(dim=(2, 3)))


@pytest.mark.parametrize("network", [BesideItsNormalisation(), Twice()])
def test_a_network_that_cannot_be_folded_stays_as_it_was(network: nn.Module) -> None:
    with_statistics(network)
    before = copy.deepcopy(network)
    assert fold_batch_norms(network, SHAPE) == 0
    images = torch.randn(2, *SHAPE)
    assert [type(module) for module in network.modules()] == [type(module) for module in before.modules()]
    assert torch.equal(network(images), before(images))
