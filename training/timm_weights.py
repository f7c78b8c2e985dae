"""Weights of other programs for the networks of timm: files in timm's naming, and in others that timm adapts to it."""

import math
import sys
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.models.timm_network import TimmNetwork, timm_entry, timm_settings

_ADAPTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained", "pretrained_filter_fn")
"""Names under which a module of timm has the function that adapts the tensors of a file to its networks."""


def load_timm_weights(network: TimmNetwork, tensors: dict[str, Tensor], *, arch: str, path: Location) -> None:
    """Copy named tensors into the backbone; a classifier among them is left out, and the network's head stays.

    timm adapts them: other naming that it knows, position embeddings to the size of the images, the first convolution
    to the number of channels.

    Raises UserError if they do not fill the backbone, naming the tensors, or if a shape does not fit.
    """
    from timm.models import clean_state_dict, load_pretrained

    settings = timm_settings(arch).to_dict()
    # A source would be taken before the tensors. No file has -1 classes, so that its classifier is left out.
    settings |= {"state_dict": clean_state_dict(tensors), "source": "", "custom_load": False, "num_classes": -1}
    _unfill(network)
    try:
        load_pretrained(
            network.backbone,
            settings,
            num_classes=0,
            in_chans=network.in_channels,
            filter_fn=_adapter(sys.modules[timm_entry(arch).__module__]),
            strict=False,
        )
    except Exception as error:  # torch's and timm's, for shapes and names
        raise UserError(f"{path} does not fit -a {arch}: {' '.join(str(error).split())[:300]}") from error
    if missing := _unfilled(network):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{path} does not fit -a {arch}: it lacks {', '.join(missing[:3])}{more}")


def _adapter(module: ModuleType) -> Callable[..., dict[str, Tensor]] | None:
    return next((getattr(module, name) for name in _ADAPTERS if hasattr(module, name)), None)


@torch.no_grad()
def _unfill(network: TimmNetwork) -> None:
    """Make every number NaN, which no file has: so that what stays one was not in the file."""
    for tensor in network.backbone.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(math.nan)


def _unfilled(network: TimmNetwork) -> list[str]:
    tensors = network.backbone.state_dict().items()
    return [name for name, tensor in tensors if tensor.is_floating_point() and bool(tensor.isnan().any())]
