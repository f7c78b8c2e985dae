"""The type in which a network computes while it trains (--precision), and its compilation (--compile)."""

import os
import shutil

import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.options.training import RunOptions

COMPILE_MODES = {"default": "default", "cuda_graphs": "reduce-overhead"}
"""torch.compile's own names."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context in which convolutions and matrix products have this precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def compiled(model: nn.Module, options: RunOptions, device: torch.device) -> nn.Module:
    """Compile the model with torch.compile; it shares the weights, and is compiled in the first step.

    Raises UserError if this machine cannot.
    """
    if options.compile == "off":
        return model
    if options.compile == "cuda_graphs" and device.type != "cuda":
        raise UserError("--compile cuda_graphs needs a GPU: choose default or off")
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(f"--compile needs the C++ compiler {compiler}, which is not installed: leave it out")
    # Steps have at most two sizes, which differ by one: each is compiled by itself.
    made = torch.compile(model, mode=COMPILE_MODES[options.compile], dynamic=False)
    assert isinstance(made, nn.Module)
    return made
