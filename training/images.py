"""Where the images of a training lie: on its device if they fit there, else in the host's memory."""

import torch
from torch import Tensor

RESIDENT_SHARE = 0.5
"""Of a GPU's free memory, how much the images may take: the network and its activations need the rest."""


def placed(images: Tensor, device: torch.device) -> Tensor:
    """The images where batches are best taken from."""
    if device.type == "cuda" and not fits(images.nbytes, torch.cuda.mem_get_info(device)[0]):
        return images
    return images.to(device)


def fits(num_bytes: int, free_bytes: int) -> bool:
    return num_bytes <= RESIDENT_SHARE * free_bytes


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """A batch of placed images; one that comes from the host's memory is copied while the device computes."""
    if images.device == device:
        return images
    return images.pin_memory().to(device, non_blocking=True)
