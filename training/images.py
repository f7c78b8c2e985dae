"""Where the images of a training lie, and how the batches come from there.

On the device of the training if they fit there, else in the host's memory, or, if
they were not even loaded, in the files of the set.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from longtail.data.stream import StreamedImages, read_images

RESIDENT_SHARE = 0.5
"""Of a GPU's free memory, how much the images may take: the network and its activations need the rest."""


def placed(images: Tensor | StreamedImages, device: torch.device) -> Tensor | StreamedImages:
    """The images where batches are best taken from."""
    if isinstance(images, StreamedImages):
        return images
    if device.type == "cuda" and not fits(images.nbytes, torch.cuda.mem_get_info(device)[0]):
        return images
    return images.to(device)


def fits(num_bytes: int, free_bytes: int) -> bool:
    """Whether so many bytes fit into the share of free memory that images may take."""
    return num_bytes <= RESIDENT_SHARE * free_bytes


def image_batches(images: Tensor | StreamedImages, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The images (n, C, H, W) uint8 of each batch of places (n,), which are on the CPU, on the device."""
    if isinstance(images, StreamedImages):
        for pixels in read_images(images, [places.numpy() for places in batches]):
            yield on_device(image_tensor(pixels), device)
        return
    # Moved in one go: no step waits for its own few numbers.
    order = torch.cat(list(batches)).to(images.device)
    for places in order.split([len(places) for places in batches]):
        yield on_device(images_at(images, places), device)


def images_at(images: Tensor, places: Tensor) -> Tensor:
    """(n, C, H, W) images at places (n,), channels last in memory like ``images``; faster than images[places]."""
    return images.permute(0, 2, 3, 1).index_select(0, places).permute(0, 3, 1, 2)


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """A batch of images; one that comes from the host's memory is copied while the device computes."""
    # By type: a rank has one device, and "cuda" and "cuda:0", the same GPU, are not equal.
    if images.device.type == device.type:
        return images
    return images.pin_memory().to(device, non_blocking=True)


def image_tensor(images: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 array to (N, C, H, W), channels last in memory."""
    # Arrow's buffers are read-only, which torch does not know of.
    own = images if images.flags.writeable else images.copy()
    return torch.from_numpy(own).permute(0, 3, 1, 2)
