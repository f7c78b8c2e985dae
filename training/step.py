"""A step of the training as the losses see it, and who is labelled in it.

Which samples of a step have labels is known on the host before the epoch begins. Told as numbers of rows it needs no
mask, whose size a GPU would have to be asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from longtail.training.augmentation import Choices
from longtail.training.distributed import Rank, sum_over_ranks

if TYPE_CHECKING:
    from longtail.training.batches import Batch


@dataclass(frozen=True)
class Rows:
    """A step's samples of one kind, labelled or unlabeled.

    places: (k,) int64 in task.train, of all ranks in their order
    mine: (m,) int64 rows of this rank's part of the step
    first: where these begin in places
    """

    places: Tensor
    mine: Tensor
    first: int

    @property
    def my_places(self) -> Tensor:
        """(m,) in task.train."""
        return self.places[self.first : self.first + len(self.mine)]

    def over_ranks(self, values: Tensor, rank: Rank) -> Tensor:
        """(k, ...) of the values (n, ...) of this rank's part those of this kind, of all ranks; without gradients."""
        own = values.detach()[self.mine]
        if rank.world_size == 1:
            return own
        everything = own.new_zeros(len(self.places), *own.shape[1:])
        everything[self.first : self.first + len(own)] = own
        return sum_over_ranks(everything, rank)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rank's part of a step.

    number, num_steps: counted from 0 through all epochs, and how many the training has
    inputs, targets: as the task made them; targets: (n,), or (n, C) probabilities
    choices: what was drawn for these samples
    labelled, unlabeled: who is who, where each step has so many of both (task.unlabeled_ratio), else None
    """

    number: int
    num_steps: int
    inputs: Tensor
    targets: Tensor
    choices: Choices
    labelled: Rows | None = None
    unlabeled: Rows | None = None


def rows_of_steps(batches: Sequence["Batch"], *, num_labelled: int, device: torch.device) -> list[tuple[Rows, Rows]]:
    """The labelled and the unlabeled samples of each step; moved to the device together, not step by step."""
    kinds = []
    for is_labelled in (True, False):
        places, mine, firsts = [], [], []
        for batch in batches:
            of_kind = (batch.places.numpy() < num_labelled) == is_labelled
            places.append(batch.places.numpy()[of_kind])
            mine.append(np.flatnonzero(of_kind[batch.part]))
            firsts.append(int(of_kind[: batch.part.start].sum()))
        moved = (_moved(places, device), _moved(mine, device), firsts)
        kinds.append([Rows(*of_step) for of_step in zip(*moved, strict=True)])
    return list(zip(*kinds, strict=True))


def _moved(arrays: Sequence[np.ndarray], device: torch.device) -> Sequence[Tensor]:
    together = torch.from_numpy(np.concatenate(arrays)).to(device)
    return together.split([len(array) for array in arrays])
