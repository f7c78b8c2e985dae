"""The command `python -m longtail.training` (training/__main__.py)."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist

from longtail.conf.arguments import given_values
from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, location
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import SHOT_GROUPS, TEST, TRAIN
from longtail.data.manifest import read_manifest
from longtail.data.verification import verify_set
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.distributed import Rank
from longtail.training.run import run_training
from longtail.training.run_directory import begin_attempt, exclusive_run, finished_run, run_paths
from longtail.training.set_options import options_with_set

OPTIONS: dict[str, type[RunOptions]] = {
    **PRETRAININGS,
    "train": TrainOptions,
    "train_semi": TrainSemiOptions,
    "train_classifier": TrainClassifierOptions,
}

OF_THE_DRIVER = {
    "master": "it is for",
    "mlflow": "logs the run (`longtail monitor --once --mlflow` logs it afterwards)",
    "retries": "starts ranks again",
    "rank_timeout": "watches the ranks",
}
"""Options that would have no effect here, and what Spark's driver does by them."""


def main(argv: Sequence[str]) -> None:
    """Run a training; rank and world size are read from torchrun's environment variables."""
    if len(argv) < 3 or argv[0] not in OPTIONS or argv[1] != "--set_dir":
        raise UserError(f"usage: python -m longtail.training {'|'.join(OPTIONS)} --set_dir DIR [OPTIONS]")
    job, set_dir = argv[0], _set_dir(argv[2])
    manifest = read_manifest(set_dir)
    given = given_values(OPTIONS[job], argv[3:], prog=f"python -m longtail.training {job}")
    options = options_with_set(OPTIONS[job], given, manifest, set_dir=set_dir)
    if isinstance(options, TrainSemiOptions) and options.needs_pseudo_labels and options.pseudo_labels is None:
        raise UserError("without Spark, train_semi needs --pseudo_labels: give a table written by gen_pseudolabels")
    if isinstance(options, TrainSemiOptions) and options.needs_pseudo_labels and options.rounds > 1:
        raise UserError("without Spark there is one round: label with `longtail gen_pseudolabels`, then train again")
    if of_driver := [name for name in OF_THE_DRIVER if name in given]:
        raise UserError(f"--{of_driver[0]} needs Spark, whose driver {OF_THE_DRIVER[of_driver[0]]}: leave it out here")
    if isinstance(options, TrainOptions) and options.dry_run:
        raise UserError(f"--dry_run is an option of `longtail {job}`: leave it out here")
    if options.data_through != "path":
        raise UserError(f"--data_through {options.data_through} needs Spark: leave it out")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if int(os.environ.get("RANK", 0)) == 0:
        check_can_be_written(options.runs_dir, option="--runs_dir")
        verify_set(set_dir, manifest)
    try:
        _run(options, set_dir, _join(options))
    finally:
        if options.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _run(options: RunOptions, set_dir: Location, rank: Rank) -> None:
    paths = run_paths(options, set_dir=set_dir, pseudo_labels=getattr(options, "pseudo_labels", None))
    if isinstance(options, TrainOptions) and options.evaluate:
        _print_scores(run_evaluation(options, paths, rank), rank)
        return
    with exclusive_run(paths.run_dir) if rank.is_first else nullcontext():
        finished = finished_run(paths.run_dir)
        attempt = begin_attempt(paths, options) if rank.is_first and not finished else 0
        result = finished.result if finished else run_training(options, paths, rank, attempt=attempt)
    _print_scores(result, rank)
    if rank.is_first:
        print(f"run: {paths.run_dir}")


def _set_dir(text: str) -> Location:
    try:
        return location(text)
    except ValueError as error:
        raise UserError(f"--set_dir {text}: {error}") from None


def _print_scores(result: dict[str, Any], rank: Rank) -> None:
    if rank.is_first:
        split = TEST if TEST in result["splits"] else TRAIN
        scores = result["splits"][split]
        shown = ("accuracy", "balanced_accuracy", *(f"{group}_shot_accuracy" for group in SHOT_GROUPS))
        print(split, {name: scores[name] for name in shown})


def _join(options: RunOptions) -> Rank:
    """Join the process group and return this process's rank; without torchrun, the only rank."""
    world_size = options.world_size
    rank, num_processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if num_processes != world_size:
        raise UserError(f"torchrun started {num_processes} processes, --world_size is {world_size}: make them equal")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        place, num_gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if place >= num_gpus and options.backend != "gloo":
            raise UserError(
                f"torchrun started a process with LOCAL_RANK={place} on a host with {num_gpus} "
                f"GPU{'s' * (num_gpus != 1)}: lower --nproc_per_node, or let ranks share a GPU with --backend gloo"
            )
        device = torch.device("cuda", place % num_gpus)
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" and options.backend == "by_device" else "gloo")
    return Rank(rank, world_size, device)
