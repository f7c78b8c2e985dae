"""Collective operations of a training; with one process they do nothing.

The process group is created by the launcher (the barrier stage or torchrun), not here.
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
    """This process's rank in a training, and its device.

    beat: heartbeat callback, called with what the rank does next (forward, backward or evaluation)
    """

    rank: int
    world_size: int
    device: torch.device
    beat: Callable[[str], None] = lambda activity: None

    @property
    def is_first(self) -> bool:
        """Whether this rank writes events, checkpoints and results."""
        return self.rank == 0

    def part(self, num_items: int) -> slice:
        """Slice of num_items that belongs to this rank; the slices are disjoint, near-equal and cover all items."""
        return slice(num_items * self.rank // self.world_size, num_items * (self.rank + 1) // self.world_size)


def with_averaged_gradients(model: nn.Module, rank: Rank) -> nn.Module:
    """Wrap the model so that backward averages gradients over the ranks. Batch norm uses each rank's own batch.

    Unlike DistributedDataParallel's default, buffers are not broadcast in every step: share_buffers does it.
    """
    if rank.world_size == 1:
        return model
    return DistributedDataParallel(model, forward_sync_buffers=False, gradient_as_bucket_view=True)


def sum_over_ranks(values: Tensor, rank: Rank) -> Tensor:
    """Sum the values over all ranks, in place, and return them."""
    if rank.world_size > 1:
        dist.all_reduce(values)
    return values


def max_over_ranks(values: Tensor, rank: Rank) -> Tensor:
    """The maximum of the values over all ranks, in place; return them."""
    if rank.world_size > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def gather_bytes(payload: bytes, rank: Rank) -> list[bytes]:
    """Gather each rank's payload on every rank, in rank order."""
    if rank.world_size == 1:
        return [payload]
    own_size = torch.tensor([len(payload)], device=rank.device)
    sizes = [torch.zeros_like(own_size) for _ in range(rank.world_size)]
    dist.all_gather(sizes, own_size)
    # all_gather needs tensors of equal size: pad each to the largest.
    piece = torch.zeros(int(max(sizes)), dtype=torch.uint8, device=rank.device)
    piece[: len(payload)] = torch.from_numpy(np.frombuffer(payload, np.uint8).copy())
    pieces = [torch.empty_like(piece) for _ in range(rank.world_size)]
    dist.all_gather(pieces, piece)
    return [found[: int(size)].cpu().numpy().tobytes() for found, size in zip(pieces, sizes, strict=True)]


def share_buffers(model: nn.Module, rank: Rank) -> None:
    """Broadcast rank 0's buffers (batch-norm statistics), which are the ones that are saved."""
    if rank.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
