"""Training of the head alone (--tune head), on features that the network computes once.

The backbone does not learn, so the features of an image stay the same as long as it is not augmented: each split's are
computed in one pass, by all ranks together, and kept beside the prepared set for the next training with the same
backbone. Every loss, rule and schedule then trains the head on them, as it would on images.
"""

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from longtail.conf.base.files import read_regular_file, write_atomically
from longtail.conf.base.locations import Location
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TRAIN
from longtail.models.build import num_features
from longtail.models.network import Network
from longtail.training.augmentation import Choices
from longtail.training.checkpoints import HEAD_PREFIX
from longtail.training.distributed import Rank, sum_over_ranks
from longtail.training.evaluation import split_features
from longtail.training.networks import load_backbone
from longtail.training.objective import Objective, Task
from longtail.training.samples import Samples
from longtail.training.training_data import TrainingData
from longtail.training.tuning import freeze

FEATURES_DIRECTORY = "features"
"""In a prepared set: features of its images, by a hash of the backbone that computed them."""


class HeadLearner(nn.Module):
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


def head_learner(
    network: Network, options: TrainOptions, set_dir: Location, task: Task, rank: Rank
) -> tuple[Task, HeadLearner]:
    """The learner of the head alone, and the task on features in the place of images."""
    assert type(task.objective) is Objective, "others need images in every step"
    if options.continues_from is not None:
        # The whole checkpoint is loaded later (training/run_start.py), but the features are computed here.
        load_backbone(network, options.continues_from, options)
    freeze(network, learned=(HEAD_PREFIX,))
    data = task.data
    directory = set_dir / FEATURES_DIRECTORY / _fingerprint(network, data)

    def with_features(split: str, samples: Samples) -> Samples:
        features = _kept_or_computed(directory / f"{split}-{_hash_of(samples)}.npy", network, samples, task, rank)
        return replace(samples, images=features[:, :, None, None])

    held_out = {split: with_features(split, samples) for split, samples in data.held_out.items()}
    task = task.with_data(train=with_features(TRAIN, data.train), held_out=held_out)
    of_features = {field.name: getattr(task.objective, field.name) for field in fields(Objective)}
    objective = FeatureObjective(**{**of_features, "has_frozen_layers": True})
    return replace(task, objective=objective), HeadLearner(network)


def _kept_or_computed(file: Location, network: Network, samples: Samples, task: Task, rank: Rank) -> Tensor:
    """(N, D) features of the samples, on the rank's device: those that rank 0 finds in the file, else computed."""
    shape = len(samples), num_features(network)
    kept = _read(file, shape) if rank.is_first else None
    is_kept = sum_over_ranks(torch.tensor([float(kept is not None)], device=rank.device), rank).item() > 0
    if is_kept:
        found = torch.zeros(shape) if kept is None else torch.from_numpy(kept)
        return sum_over_ranks(found.to(rank.device), rank)
    features = split_features(network, samples, task, rank).clone()
    if rank.is_first:
        _keep(file, features.cpu().numpy())
    return features


def _read(file: Location, shape: tuple[int, int]) -> np.ndarray | None:
    """None if there is no such file, or if it is damaged."""
    try:
        found = np.load(io.BytesIO(read_regular_file(file)), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_whole = found.shape == shape and found.dtype == np.float32 and np.isfinite(found).all()
    return found if is_whole else None


def _keep(file: Location, features: np.ndarray) -> None:
    """Where the set cannot be written, the features serve this training alone."""
    content = io.BytesIO()
    np.save(content, features)
    with suppress(OSError):
        write_atomically(file, lambda temporary: temporary.write_bytes(content.getbuffer()))


def _fingerprint(network: Network, data: TrainingData) -> str:
    """Of all that decides the features of an image: the backbone's tensors and the normalisation."""
    digest = hashlib.sha256(repr(data.normalisation).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(HEAD_PREFIX):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash_of(samples: Samples) -> str:
    """Of the samples' ids, in their order: the labelled ones are also trained on with pseudo-labelled ones."""
    return hashlib.sha256(samples.ids.numpy().tobytes()).hexdigest()[:16]
