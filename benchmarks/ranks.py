"""Two ranks with one thread each beside one process with two threads: the same loop, the same batches.

    python benchmarks/ranks.py --set_dir datasets/prepared/cifar10-... [-a resnet20] [--epochs 2] [--rounds 3]

Both train on the labelled part of a prepared set with training.loop.fit (batch 128 over
all ranks together, test set left out). The ranks are two processes with gloo on
loopback, as the barrier stage makes them. Prints images/s (median over all epochs but
the first of each round) and the ratio.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from longtail.conf.options.training import TrainOptions
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.training.distributed import Rank
from longtail.training.loop import EpochReport, build_optimizer, fit
from longtail.training.supervised import supervised_task


def speeds(set_dir: Path, options: TrainOptions, rank: Rank) -> list[float]:
    """Images/s of each epoch but the first, in which memory is allocated."""
    manifest = read_manifest(set_dir)
    task = supervised_task(options, set_dir, manifest, rank.device).with_data(held_out={})
    torch.manual_seed(0)
    model = build_model(options.arch, num_classes=task.data.num_classes, in_channels=task.data.train.images.shape[1])
    model = model.to(memory_format=torch.channels_last)
    reports: list[EpochReport] = []
    fit(model, build_optimizer(model, options), task, options, rank, first_epoch=0, on_epoch=reports.append)
    return [report.images_per_second for report in reports[1:]]


def run_rank(rank: int, world_size: int, threads: int, set_dir: Path, options: TrainOptions, directory: str) -> None:
    torch.set_num_threads(threads)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=world_size)
    found = speeds(set_dir, options, Rank(rank, world_size, torch.device("cpu")))
    if rank == 0:
        torch.save(found, f"{directory}/speeds")
    if world_size > 1:
        dist.destroy_process_group()


def measured(world_size: int, threads: int, set_dir: Path, options: TrainOptions) -> list[float]:
    with tempfile.TemporaryDirectory() as directory:
        mp.spawn(run_rank, (world_size, threads, set_dir, options, directory), nprocs=world_size)
        return torch.load(f"{directory}/speeds", weights_only=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set_dir", type=Path, required=True)
    parser.add_argument("-a", "--arch", default="resnet20")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.set_dir)
    options = TrainOptions(
        dataset=manifest.dataset, arch=arguments.arch, epochs=1 + arguments.epochs, batch_size=128, learning_rate=0.01
    )
    one: list[float] = []
    two: list[float] = []
    for _ in range(arguments.rounds):  # in turn, so that what else the machine does hits both
        one += measured(1, 2, arguments.set_dir, options)
        two += measured(2, 1, arguments.set_dir, options)
    print(f"{manifest.dataset}, {manifest.num_images('train')} images, {arguments.arch}, batch 128")
    for name, found in (("1 process, 2 threads", one), ("2 ranks, 1 thread each", two)):
        values = ", ".join(f"{value:.0f}" for value in found)
        print(f"{name:<24}{statistics.median(found):8.0f} images/s   ({values})")
    print(f"2 ranks / 1 process     {statistics.median(two) / statistics.median(one):8.2f}")


if __name__ == "__main__":
    main()
