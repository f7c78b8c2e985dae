"""How much of a training is learning: a whole run beside its bare steps and beside a conventional loop.

    python benchmarks/training_epoch.py --set_dir datasets/prepared/cifar10-... [--epochs 3] [--rounds 3]
    python benchmarks/training_epoch.py --set_dir ... --device cuda --precision bfloat16 --compile cuda_graphs

Three ways to train the same network (resnet32) in the same batches (128) on the labelled part of a prepared set take
turns in one process, round by round. Each is timed from nothing to its last epoch:

- longtail: training.run.run_training: reads the Parquet files, augments, trains, counts every class, and writes metric
  events, TensorBoard scalars and checkpoints. The set's test part is left out, since the others have none;
- bare: forward, backward and step on one random batch that stays in memory, as many steps, the same options;
- conventional: torchvision's CIFAR10 class with the same images, PIL transforms, a DataLoader with 2 workers, .item()
  twice a step; always in float32.

Before that each network takes a few steps, so that nobody pays for what happens once in a process. Prints the median
images/s and the medians of the ratios within a round. With --device cuda also the share of the GPU's dense bf16 peak
(floating-point operations counted by torch.utils.flop_counter), and with --full_run the time of a 200-epoch run of the
whole set, tested after every epoch.
"""

import argparse
import dataclasses
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import CIFAR10

from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import SPLITS, TRAIN
from longtail.data.contract import ROWS_DIRECTORY
from longtail.data.loader import ImageArrays, load_split
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.training.distributed import Rank
from longtail.training.loop import build_optimizer
from longtail.training.precision import autocast, compile_model
from longtail.training.run import run_training
from longtail.training.run_directory import RunPaths

ARCH = "resnet32"
BATCH_SIZE = 128
WARM_UP_STEPS = 5
DENSE_BF16_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "B200": 2250e12}
"""Operations a second, by part of the name of the GPU; from NVIDIA's data sheets (SXM versions, without sparsity)."""


class OurImages(CIFAR10):
    """torchvision's data set, holding the images of the prepared set instead of its own files."""

    def __init__(self, arrays: ImageArrays, transform: transforms.Compose) -> None:
        self.data, self.targets = arrays.images, arrays.labels.tolist()
        self.transform, self.target_transform = transform, None


def training_part(set_dir: Path, directory: Path) -> Path:
    """The same set with nothing but its labelled part."""
    manifest = read_manifest(set_dir)
    counts = {split: manifest.counts[split] if split == TRAIN else [0] * manifest.num_classes for split in SPLITS}
    directory.mkdir()
    (directory / ROWS_DIRECTORY).symlink_to((set_dir / ROWS_DIRECTORY).resolve())
    dataclasses.replace(manifest, counts=counts, num_classless=0).write(directory)
    return directory


def longtail(set_dir: Path, options: TrainOptions, device: torch.device) -> int:
    """A whole run in a directory of its own, which is removed; how many images it took."""
    runs = Path(tempfile.mkdtemp(prefix="run-", dir=options.runs_dir))
    paths = RunPaths(set_dir=set_dir, run_dir=runs / "run", events_dir=runs / EVENTS_DIRECTORY)
    run_training(options, paths, Rank(0, 1, device), attempt=1)
    shutil.rmtree(runs)
    return options.epochs * read_manifest(set_dir).num_images(TRAIN)


def bare(set_dir: Path, options: TrainOptions, device: torch.device, *, num_steps: int | None = None) -> int:
    """As many steps as the others take; how many images these are: a few more, because all batches are full."""
    manifest = read_manifest(set_dir)
    height, width, channels = manifest.image_shape
    model = build_model(ARCH, num_classes=manifest.num_classes, in_channels=channels)
    model = model.to(device, memory_format=torch.channels_last).train()
    compiled, optimizer = compile_model(model, options, device), build_optimizer(model, options)
    images = torch.randn(BATCH_SIZE, channels, height, width, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(manifest.num_classes, (BATCH_SIZE,), device=device)
    num_steps = num_steps or options.epochs * -(-manifest.num_images(TRAIN) // BATCH_SIZE)
    for _ in range(num_steps):
        optimizer.zero_grad(set_to_none=True)
        with autocast(options.precision, device):
            logits = compiled(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
    synchronise(device)
    return num_steps * BATCH_SIZE


def conventional(set_dir: Path, options: TrainOptions, device: torch.device) -> int:
    manifest = read_manifest(set_dir)
    arrays = load_split(set_dir, TRAIN, manifest)
    height, _, channels = manifest.image_shape
    model = build_model(ARCH, num_classes=manifest.num_classes, in_channels=channels).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    crop = transforms.RandomCrop(height, padding=height // 8)
    normalise = transforms.Normalize(manifest.channel_mean, manifest.channel_std)
    transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise])
    loader = DataLoader(OurImages(arrays, transform), batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    for _ in range(options.epochs):
        total = right = 0.0
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            right += (logits.argmax(1) == labels).sum().item()
    return options.epochs * len(arrays.labels)


WAYS = {"longtail": longtail, "bare": bare, "conventional": conventional}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations_per_image(channels: int, height: int, width: int, num_classes: int) -> float:
    """Floating-point operations of forward and backward; a multiplication and an addition are two."""
    model = build_model(ARCH, num_classes=num_classes, in_channels=channels)
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(model(torch.randn(2, channels, height, width)), torch.tensor([0, 1])).backward()
    return counter.get_total_flops() / 2


def report_gpu(speed: float, set_dir: Path, device: torch.device) -> None:
    manifest = read_manifest(set_dir)
    height, width, channels = manifest.image_shape
    operations = operations_per_image(channels, height, width, manifest.num_classes)
    name = torch.cuda.get_device_name(device)
    print(f"{name}, {operations / 1e6:.0f} million operations an image, {operations * speed / 1e12:.2f} TFLOP/s")
    for part, peak in DENSE_BF16_PEAK.items():
        if part in name:
            print(f"share of the bf16 peak ({peak / 1e12:.0f} TFLOP/s): {operations * speed / peak:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set_dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", default="off")
    parser.add_argument("--full_run", action="store_true")
    arguments = parser.parse_args()
    device, manifest = arguments.device, read_manifest(arguments.set_dir)
    with tempfile.TemporaryDirectory() as directory:
        options = TrainOptions(
            dataset=manifest.dataset,
            arch=ARCH,
            epochs=arguments.epochs,
            batch_size=BATCH_SIZE,
            precision=arguments.precision,
            compile=arguments.compile,
            runs_dir=Path(directory),
        )
        labelled_set = training_part(arguments.set_dir, Path(directory) / "set")
        bare(labelled_set, options, device, num_steps=WARM_UP_STEPS)
        plain = options.model_copy(update={"precision": "float32", "compile": "off"})
        bare(labelled_set, plain, device, num_steps=WARM_UP_STEPS)
        speeds: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(arguments.rounds):
            for name, train in WAYS.items():
                started = time.monotonic()
                images = train(labelled_set, options, device)
                speeds[name].append(images / (time.monotonic() - started))
        print(
            f"{manifest.dataset}, {manifest.num_images(TRAIN)} images, {arguments.epochs} epochs, {ARCH}, "
            f"batch {BATCH_SIZE}, {device}, {torch.get_num_threads()} threads, {options.precision}, "
            f"compile {options.compile}"
        )
        for name, found in speeds.items():
            print(f"{name:<13}{statistics.median(found):9.0f} images/s")
        for name in ("bare", "conventional"):
            ratios = [ours / theirs for ours, theirs in zip(speeds["longtail"], speeds[name], strict=True)]
            shown = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
            print(f"longtail / {name:<13}{statistics.median(ratios):6.3f}  (rounds: {shown})")
        if device.type == "cuda":
            report_gpu(statistics.median(speeds["longtail"]), labelled_set, device)
        if arguments.full_run:
            started = time.monotonic()
            longtail(arguments.set_dir, options.model_copy(update={"epochs": 200}), device)
            took = time.monotonic() - started
            print(f"200 epochs of {manifest.num_images(TRAIN)} images, tested after each: {took:.1f} s")


if __name__ == "__main__":
    main()
