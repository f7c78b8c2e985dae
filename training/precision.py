"""Mixed precision (--precision) and compilation (--compile) of training."""

import copy
import os
import shutil
import time
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.options.training import RunOptions
from longtail.training.checkpoints import load_checkpoint
from longtail.training.distributed import Rank, sum_over_ranks
from longtail.training.run_directory import CHECKPOINT_FILE, RunPaths

CUDA_GRAPHS = ("cuda_graphs", "compiled_cuda_graphs")
"""Values of --compile with which whole steps are CUDA graphs (training/step_graphs.py)."""
_COMPILED = ("default", "compiled_cuda_graphs")
Precision = Literal["float32", "bfloat16"]
_PROBED_IMAGES = 32
"""On a rank at a time: enough for the speed of a step, few enough for a CPU that emulates bfloat16."""
_PROBED_STEPS = 3
_WORTHWHILE = 0.9
"""bfloat16 has to take at most this share of the time of float32; less is lost in what a probe measures wrongly."""


def with_precision(
    options: RunOptions, network: nn.Module, image_shape: Sequence[int], paths: RunPaths, rank: Rank
) -> RunOptions:
    """The options with the type of number that the training computes in, which they may leave open (auto).

    A run that goes on keeps the type that its own checkpoint records. Otherwise a short probe decides, of all ranks
    together, so that they choose alike: bfloat16 where it is faster, on the device that each of them has.

    image_shape: (height, width, channels)
    """
    if options.precision != "auto":
        return options
    known = _recorded_precision(paths)
    return options.model_copy(update={"precision": known or faster_precision(network, image_shape, rank)})


def faster_precision(network: nn.Module, image_shape: Sequence[int], rank: Rank) -> Precision:
    """bfloat16 if a step of the network takes less time in it than in float32, summed over all ranks."""
    model = copy.deepcopy(network).train()
    height, width, channels = image_shape
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((_PROBED_IMAGES, channels, height, width), generator=generator).to(rank.device)
    images = images.contiguous(memory_format=torch.channels_last)

    def step_seconds(precision: Precision) -> float:
        _synchronise(rank.device)
        started = time.perf_counter()
        with autocast(precision, rank.device):
            outputs = model(images)
        if outputs.requires_grad:
            outputs.float().square().mean().backward()
        _synchronise(rank.device)
        return time.perf_counter() - started

    # Random numbers that a network draws, as for dropout, are left to the training.
    with torch.random.fork_rng([rank.device] if rank.device.type == "cuda" else []):
        # The first step of each chooses its algorithms. Then they take turns, so that what else runs slows down both.
        for precision in get_args(Precision):
            step_seconds(precision)
        steps = [[step_seconds(precision) for precision in get_args(Precision)] for _ in range(_PROBED_STEPS)]
    fastest = torch.tensor(steps, dtype=torch.float32, device=rank.device).amin(dim=0)  # (2,)
    in_float32, in_bfloat16 = sum_over_ranks(fastest, rank).tolist()
    return "bfloat16" if in_bfloat16 <= _WORTHWHILE * in_float32 else "float32"


def _recorded_precision(paths: RunPaths) -> Precision | None:
    """Of the run's own last checkpoint; None without one."""
    checkpoint = paths.run_dir / CHECKPOINT_FILE
    metadata = load_checkpoint(checkpoint).metadata if checkpoint.exists() else None
    recorded = metadata.options.get("precision") if metadata else None
    return recorded if recorded in get_args(Precision) else None


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which convolutions and matrix products use this precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def compile_model(model: nn.Module, options: RunOptions, device: torch.device) -> nn.Module:
    """Wrap the model with torch.compile where --compile asks for it; the result shares its weights.

    It is compiled in the first step. Raises UserError if the machine has no suitable GPU or compiler.
    """
    if options.compile in CUDA_GRAPHS and device.type != "cuda":
        raise UserError(f"--compile {options.compile} needs a GPU: choose default or off")
    if options.compile not in _COMPILED:
        return model
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(f"--compile needs the C++ compiler {compiler}, which is not installed: leave it out")
    # Batches have at most two sizes, which differ by one: compile once for each.
    compiled = torch.compile(model, dynamic=False)
    assert isinstance(compiled, nn.Module)
    return compiled
