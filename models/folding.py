"""Batch normalisations folded into the convolutions before them: the same outputs with fewer passes over memory."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

MOST_DIFFERENCE = 1e-4
"""Between outputs before and after, as a share of the largest one; rounding alone makes some 1e-6."""


@torch.inference_mode()
def fold_batch_norms(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Fold each batch normalisation whose input is the output of a convolution, and return their number.

    network: in evaluation mode on the CPU; it is changed in place, and can only infer from then on
    image_shape: (C, H, W) of its inputs

    Which ones they are is seen in a forward pass of two images of noise. If a second one gives other outputs, as where
    more than the normalisation uses the convolution's output, the network stays as it was.
    """
    images = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    found, before = _convolution_of_norm(network, images)
    originals = {name: network.get_submodule(name) for pair in found.items() for name in pair}
    with torch.inference_mode(False):  # parameters that are made in inference mode could not be moved to a GPU
        for norm, convolution in found.items():
            before_norm, after_convolution = originals[convolution], originals[norm]
            assert isinstance(before_norm, nn.Conv2d) and isinstance(after_convolution, nn.BatchNorm2d)
            network.set_submodule(convolution, fuse_conv_bn_eval(before_norm, after_convolution))
            network.set_submodule(norm, nn.Identity())
    if found and not _is_same(before, network(images)):
        for name, module in originals.items():
            network.set_submodule(name, module)
        return 0
    return len(found)


def _convolution_of_norm(network: nn.Module, images: Tensor) -> tuple[dict[str, str], Tensor]:
    """By name of a batch normalisation, the name of the convolution before it; both used once. And the outputs."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # by id, which stays that of the tensor as long as it is kept
    uses: dict[str, int] = {}
    found: dict[str, str] = {}

    def used(name: str) -> None:
        uses[name] = uses.get(name, 0) + 1

    def keep_output(name: str, _module: nn.Module, _given: object, output: Tensor) -> None:
        used(name)
        outputs[id(output)] = name, output

    def find_convolution(name: str, _module: nn.Module, given: tuple[Tensor]) -> None:
        used(name)
        if id(given[0]) in outputs:
            found[name] = outputs[id(given[0])][0]

    hooks = []
    for name, module in network.named_modules():
        # Not of derived types, which may do more.
        if type(module) is nn.Conv2d:
            hooks.append(module.register_forward_hook(partial(keep_output, name)))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(partial(find_convolution, name)))
    try:
        result = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {norm: conv for norm, conv in found.items() if uses[norm] == uses[conv] == 1}, result


def _is_same(before: Tensor, after: Tensor) -> bool:
    return bool((after - before).abs().max() <= MOST_DIFFERENCE * before.abs().max())
