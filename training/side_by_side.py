"""Several trainings at once in one process, on one device.

A small network leaves most of a GPU idle, and processes that share a GPU take turns on it. Trainings in threads of one
process, each with a stream of its own, run at the same time; with --compile cuda_graphs a step is one call, so that
threads do not wait for each other in Python. Each training learns what it learns alone.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from longtail.conf.options.training import RunOptions
from longtail.training.distributed import Rank
from longtail.training.run import run_training
from longtail.training.run_directory import RunPaths


@dataclass(frozen=True)
class Training:
    """A run that is to be trained or resumed."""

    options: RunOptions
    paths: RunPaths
    attempt: int


def run_side_by_side(trainings: Sequence[Training], rank: Rank) -> list[dict[str, Any] | Exception]:
    """Train all at once, on the only rank; of each the result, or why it failed, which ends none of the others."""

    def train(training: Training) -> dict[str, Any]:
        with _own_stream(rank.device):
            return run_training(training.options, training.paths, rank, attempt=training.attempt)

    with ThreadPoolExecutor(len(trainings)) as threads:
        begun = [threads.submit(train, training) for training in trainings]
        errors = [future.exception() for future in begun]
    return [
        error if isinstance(error, Exception) else future.result() for error, future in zip(errors, begun, strict=True)
    ]


def _own_stream(device: torch.device) -> AbstractContextManager[Any]:
    if device.type != "cuda":
        return nullcontext()
    torch.cuda.set_device(device)  # the device of this thread
    return torch.cuda.stream(torch.cuda.Stream(device))
