"""What of a network is trained (--tune): all of it, its last blocks, or its head alone."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import nn

from longtail.conf.base.errors import UserError
from longtail.models.network import Network
from longtail.models.timm_network import TimmNetwork
from longtail.training.checkpoints import HEAD_PREFIX


def learn_last_blocks(network: Network, num_blocks: int) -> None:
    """Require gradients of the head and of the last blocks, and of nothing else.

    A block is a module at the top of the network or, where that is a sequence, a member of it; a normalisation
    belongs to the block before it.

    Raises UserError if the network has fewer blocks.
    """
    backbone = network.backbone if isinstance(network, TimmNetwork) else network
    blocks = _blocks(backbone)
    if num_blocks > len(blocks):
        raise UserError(f"--tune last_{num_blocks}: the network has {len(blocks)} blocks; give last_1 to all")
    freeze(network, learned=(HEAD_PREFIX,))
    for module in (module for block in blocks[-num_blocks:] for module in block):
        module.requires_grad_(True)


def freeze(model: nn.Module, *, learned: Sequence[str]) -> None:
    """Require gradients of the parameters whose names start with one of `learned`, and of no others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(learned)))


def _blocks(backbone: nn.Module) -> list[list[nn.Module]]:
    parts = list(_parts(backbone))
    starts = [place for place, part in enumerate(parts) if place == 0 or not _only_normalises(part)]
    return [parts[start:stop] for start, stop in pairwise([*starts, len(parts)])]


def _parts(backbone: nn.Module) -> Iterator[nn.Module]:
    """The modules with parameters at the top, in order, and the members of sequences in their places."""
    for name, child in backbone.named_children():
        if f"{name}." != HEAD_PREFIX:
            members = child if isinstance(child, (nn.Sequential, nn.ModuleList)) else [child]
            yield from (module for module in members if next(module.parameters(), None) is not None)


def _only_normalises(module: nn.Module) -> bool:
    return all(parameter.dim() < 2 for parameter in module.parameters())
