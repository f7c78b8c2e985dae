"""Training of the head alone, on features that the backbone has computed once (training/kept_features.py).

The backbone does not learn, so the features of an image stay the same as long as it is not augmented. Every loss, rule
and schedule trains the head on them, as it would on images.
"""

from dataclasses import dataclass, fields, replace

from torch import Tensor, nn

from longtail.conf.base.locations import Location
from longtail.models.network import Network
from longtail.training.augmentation import Choices
from longtail.training.distributed import Rank
from longtail.training.kept_features import KeptFeatures
from longtail.training.objective import Objective, Task
from longtail.training.training_data import TrainingData


class HeadModule(nn.Module):
    """The head as a module of features (n, D, 1, 1); the backbone is there to be saved with it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """(n, D, 1, 1) features to (n, C) outputs of the head."""
        return self.network.fc(features.flatten(1))


@dataclass(frozen=True, kw_only=True)
class FeatureObjective(Objective):
    """Learns the targets of features, which are neither augmented nor normalised."""

    def training_inputs(
        self, data: TrainingData, images: Tensor, targets: Tensor, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        """Features (n, D, 1, 1) as they are, and their targets."""
        return images, targets

    def evaluation_inputs(
        self, data: TrainingData, images: Tensor, labels: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As training_inputs."""
        return images, labels


def head_module(network: Network, set_dir: Location, task: Task, rank: Rank) -> tuple[Task, HeadModule]:
    """The module that trains the head alone, and the task on features in the place of images.

    network: with the backbone's weights, of which none requires gradients
    """
    assert type(task.objective) is Objective, "others need images in every step"
    data, kept = task.data, KeptFeatures(network, task.data, set_dir, rank)
    train = replace(data.train, images=kept.of_training()[:, :, None, None])
    held_out = {
        split: replace(samples, images=kept.of_held_out(split)[:, :, None, None])
        for split, samples in data.held_out.items()
    }
    task = task.with_data(train=train, held_out=held_out)
    of_features = {field.name: getattr(task.objective, field.name) for field in fields(Objective)}
    objective = FeatureObjective(**{**of_features, "has_frozen_layers": True})
    return replace(task, objective=objective), HeadModule(network)
