"""Mixed precision (--precision) and compilation (--compile) of training."""

import os
import shutil

import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.options.training import RunOptions

COMPILE_MODES = {"default": "default", "cuda_graphs": "reduce-overhead"}
"""Modes of torch.compile by value of --compile."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which convolutions and matrix products use this precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def compile_model(model: nn.Module, options: RunOptions, device: torch.device) -> nn.Module:
    """Wrap the model with torch.compile; the result shares its weights and is compiled in the first step.

    Raises UserError if the machine has no suitable GPU or compiler.
    """
    if options.compile == "off":
        return model
    if options.compile == "cuda_graphs" and device.type != "cuda":
        raise UserError("--compile cuda_graphs needs a GPU: choose default or off")
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(f"--compile needs the C++ compiler {compiler}, which is not installed: leave it out")
    # Batches have at most two sizes, which differ by one: compile once for each.
    compiled = torch.compile(model, mode=COMPILE_MODES[options.compile], dynamic=False)
    assert isinstance(compiled, nn.Module)
    return compiled
