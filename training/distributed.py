"""The few collective steps of a training; with one process they do nothing.

The process group is made by whoever starts the processes (the barrier stage,
or torchrun); here it is only used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Rank:
    """This process among the ranks of one training, and its device.

    alive: called with what the rank is about to do (forward, backward, evaluation), as its sign of life
    """

    rank: int
    world_size: int
    device: torch.device
    alive: Callable[[str], None] = lambda doing: None

    @property
    def is_first(self) -> bool:
        """Whether this rank writes events, checkpoints and results."""
        return self.rank == 0

    def part(self, num_items: int) -> slice:
        """This rank's share of a batch: near-equal, disjoint, together everything."""
        return slice(num_items * self.rank // self.world_size, num_items * (self.rank + 1) // self.world_size)


def with_averaged_gradients(model: nn.Module, rank: Rank) -> nn.Module:
    """The model, its gradients averaged over the ranks during backward. Batch norm uses each rank's own batch.

    Its statistics are not sent in every step, as they would be by default: share_buffers sends them when they matter.
    """
    if rank.world_size == 1:
        return model
    return DistributedDataParallel(model, forward_sync_buffers=False, gradient_as_bucket_view=True)


def sum_over_ranks(values: Tensor, rank: Rank) -> Tensor:
    """Replace the values by their sum over all ranks, in place; return them."""
    if rank.world_size > 1:
        dist.all_reduce(values)
    return values


def gather_bytes(payload: bytes, rank: Rank) -> list[bytes]:
    """What each rank has, in rank order, on every rank."""
    if rank.world_size == 1:
        return [payload]
    own_size = torch.tensor([len(payload)], device=rank.device)
    sizes = [torch.zeros_like(own_size) for _ in range(rank.world_size)]
    dist.all_gather(sizes, own_size)
    # All pieces of a gathering are of one size: that of the largest.
    piece = torch.zeros(int(max(sizes)), dtype=torch.uint8, device=rank.device)
    piece[: len(payload)] = torch.from_numpy(np.frombuffer(payload, np.uint8).copy())
    pieces = [torch.empty_like(piece) for _ in range(rank.world_size)]
    dist.all_gather(pieces, piece)
    return [found[: int(size)].cpu().numpy().tobytes() for found, size in zip(pieces, sizes, strict=True)]


def share_buffers(model: nn.Module, rank: Rank) -> None:
    """Give all ranks rank 0's batch-norm statistics, which are the ones that get saved."""
    if rank.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
