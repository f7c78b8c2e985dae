"""The images of each step of a training, from memory or from the files of the set.

In memory, images are drawn from all at once, and which of them meet in a batch
does not depend on the number of ranks. From files each rank reads a part of the
row groups (data/stream.py), so there it does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.stream import StreamedImages, epoch_orders, read_images
from training.distributed import Rank
from training.tasks import Samples, image_tensor, images_at


@dataclass(frozen=True)
class Batch:
    """The samples of one step of all ranks, places (N,), and this rank's part of them."""

    places: Tensor
    part: slice


def epoch_batches(
    samples: Samples, order: Tensor, rank: Rank, *, num_steps: int, shuffle_buffer: int, generator: torch.Generator
) -> list[Batch]:
    """The steps of an epoch in which each sample is seen as often as it occurs in ``order`` (N,).

    Near-equal batches, so that no batch norm ever sees a tiny last one.
    """
    if not isinstance(samples.images, StreamedImages):
        return [Batch(places, rank.part(len(places))) for places in torch.tensor_split(order, num_steps)]
    orders = epoch_orders(
        samples.images,
        world_size=rank.world_size,
        shuffle_buffer=shuffle_buffer,
        generator=np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item()),
        repeats=torch.bincount(order, minlength=len(samples)).numpy(),
    )
    batches = []
    for parts in zip(*(np.array_split(of_rank, num_steps) for of_rank in orders), strict=True):
        first = sum(len(part) for part in parts[: rank.rank])
        places = torch.from_numpy(np.concatenate(parts))
        batches.append(Batch(places, slice(first, first + len(parts[rank.rank]))))
    return batches


def image_batches(samples: Samples, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """The images (n, C, H, W) uint8 of each batch of places (n,), on the samples' device."""
    device = samples.labels.device
    if isinstance(samples.images, StreamedImages):
        for images in read_images(samples.images, [places.numpy() for places in batches]):
            yield image_tensor(images).to(device)
    else:
        for places in batches:
            yield images_at(samples.images, places.to(device))
