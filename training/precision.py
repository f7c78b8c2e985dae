"""What a network computes in while it learns (--precision), and whether it is compiled (--compile)."""

import os
import shutil

import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.options.training import RunOptions

COMPILE_MODES = {"default": "default", "cuda_graphs": "reduce-overhead"}
"""torch.compile's own names."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Within it convolutions and matrix products are of this precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def compiled(model: nn.Module, options: RunOptions, device: torch.device) -> nn.Module:
    """The model as torch.compile makes it: it has the same weights. Compiling happens in the first step.

    Raises UserError if this machine cannot.
    """
    if options.compile == "off":
        return model
    if options.compile == "cuda_graphs" and device.type != "cuda":
        raise UserError("--compile cuda_graphs needs a GPU: take default or off")
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(f"--compile needs the C++ compiler {compiler}, which is not installed: leave it out")
    # Steps have at most two sizes, the one larger by one than the other: each gets code of its own.
    return torch.compile(model, mode=COMPILE_MODES[options.compile], dynamic=False)
