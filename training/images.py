"""Where training images are kept, and how batches are read from there.

Images are kept on the training device if they fit, else in host memory; images that were not loaded stay in the files
of the data set.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from longtail.data.stream import StreamedImages, read_images

RESIDENT_SHARE = 0.5
"""Fraction of a GPU's free memory that images may use; the network and its activations need the rest."""


def move_if_fits(images: Tensor | StreamedImages, device: torch.device) -> Tensor | StreamedImages:
    """Move images to the device if they fit; otherwise return them unchanged."""
    if isinstance(images, StreamedImages):
        return images
    if device.type == "cuda" and not fits(images.nbytes, torch.cuda.mem_get_info(device)[0]):
        return images
    return images.to(device)


def fits(num_bytes: int, free_bytes: int) -> bool:
    """Whether num_bytes of images fit into RESIDENT_SHARE of the free memory."""
    return num_bytes <= RESIDENT_SHARE * free_bytes


def image_batches(images: Tensor | StreamedImages, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the (n, C, H, W) uint8 images of each batch of indices (n,), on the device; the indices are on the CPU."""
    if isinstance(images, StreamedImages):
        for pixels in read_images(images, [indices.numpy() for indices in batches]):
            yield images_to_device(image_tensor(pixels), device)
        return
    # All indices are moved at once, so that no step waits for its own.
    order = torch.cat(list(batches)).to(images.device)
    for indices in order.split([len(indices) for indices in batches]):
        yield images_to_device(select_images(images, indices), device)


def select_images(images: Tensor, indices: Tensor) -> Tensor:
    """Select (n, C, H, W) images by indices (n,), channels last in memory like ``images``; faster than indexing."""
    return images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)


def images_to_device(images: Tensor, device: torch.device) -> Tensor:
    """Move a batch of images to the device; a copy from host memory overlaps with computation."""
    # Compare types: a rank has one device, and "cuda" and "cuda:0", the same GPU, are not equal.
    if images.device.type == device.type:
        return images
    return images.pin_memory().to(device, non_blocking=True)


def image_tensor(images: np.ndarray) -> Tensor:
    """Convert an (N, H, W, C) uint8 array to an (N, C, H, W) tensor, channels last in memory."""
    # Arrow's buffers are read-only, which torch tensors do not support.
    writable = images if images.flags.writeable else images.copy()
    return torch.from_numpy(writable).permute(0, 3, 1, 2)
