"""A step of the training: which samples meet in it, and what the losses see of them.

Which samples of a step have labels is known on the host before the epoch begins. Row numbers need no mask, whose size
would have to be copied back from a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtail.training.augmentation import Choices
from longtail.training.distributed import Rank, sum_over_ranks


@dataclass(frozen=True)
class Batch:
    """The samples of one step over all ranks.

    indices: (N,) int64 into data.train, on the CPU; part: the slice of them that is this rank's
    """

    indices: Tensor
    part: slice


@dataclass(frozen=True)
class Rows:
    """The labelled or the unlabeled samples of a step.

    indices: (k,) int64 into data.train, of all ranks in their order
    local: (m,) int64 rows in this rank's part of the step
    first: position in indices of this rank's first sample
    """

    indices: Tensor
    local: Tensor
    first: int

    @property
    def local_indices(self) -> Tensor:
        """(m,) int64 into data.train."""
        return self.indices[self.first : self.first + len(self.local)]

    def gather(self, values: Tensor, rank: Rank) -> Tensor:
        """Select these rows of the values (n, ...) of each rank's part: (k, ...) over all ranks, without gradients."""
        own = values.detach()[self.local]
        if rank.world_size == 1:
            return own
        everything = own.new_zeros(len(self.indices), *own.shape[1:])
        everything[self.first : self.first + len(own)] = own
        return sum_over_ranks(everything, rank)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rank's part of a step.

    number, num_steps: counted from 0 over all epochs, and their total
    inputs, targets: network inputs, and (n,) classes or (n, C) probabilities, as the objective made them
    class_weights: (n,) for an objective whose loss applies them itself; else ones
    choices: the random choices of these samples
    labelled, unlabeled: rows of the samples before and after data.num_labelled
    """

    number: int
    num_steps: int
    inputs: Tensor
    targets: Tensor
    class_weights: Tensor
    choices: Choices
    labelled: Rows
    unlabeled: Rows


def rows_by_step(batches: Sequence[Batch], *, num_labelled: int, device: torch.device) -> list[tuple[Rows, Rows]]:
    """Labelled and unlabeled rows of each step; moved to the device together, not step by step."""
    kinds = []
    for is_labelled in (True, False):
        indices, local, firsts = [], [], []
        for batch in batches:
            selected = (batch.indices.numpy() < num_labelled) == is_labelled
            indices.append(batch.indices.numpy()[selected])
            local.append(np.flatnonzero(selected[batch.part]))
            firsts.append(int(selected[: batch.part.start].sum()))
        moved = (_moved(indices, device), _moved(local, device), firsts)
        kinds.append([Rows(*fields) for fields in zip(*moved, strict=True)])
    return list(zip(*kinds, strict=True))


def _moved(arrays: Sequence[np.ndarray], device: torch.device) -> Sequence[Tensor]:
    together = torch.from_numpy(np.concatenate(arrays)).to(device)
    return together.split([len(array) for array in arrays])
