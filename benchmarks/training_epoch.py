"""How much of an epoch is learning: our loop beside the bare steps and beside a conventional loop.

    python benchmarks/training_epoch.py --set_dir datasets/prepared/cifar10-... [--epochs 3]

Three things are timed in turn in the same process, on the labelled part of a
prepared set, with the same network (resnet32) and batch size (128):

- ours: training.loop.fit, augmentation and per-class metrics included, test set left out;
- bare: forward, backward and step on one random batch that stays in memory, as many steps;
- conventional: PIL images, torchvision transforms, a DataLoader with 2 workers, .item() each step.

Prints images/s (median over epochs) and the ratios ours/bare and ours/conventional.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from conf.schema import TrainOptions
from data.contract import TRAIN
from data.loader import load_split
from data.manifest import read_manifest
from models.build import build_model
from training.distributed import Rank
from training.loop import EpochReport, build_optimizer, fit
from training.tasks import Task, supervised_task

BATCH_SIZE = 128


class PilImages(Dataset):
    """The labelled part as torchvision's CIFAR10 class serves it."""

    def __init__(self, set_dir: Path, transform: transforms.Compose) -> None:
        arrays = load_split(set_dir, TRAIN, read_manifest(set_dir))
        self.images, self.labels, self.transform = arrays.images, arrays.labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def new_model(task: Task, rank: Rank) -> nn.Module:
    model = build_model("resnet32", num_classes=len(task.class_names), in_channels=task.train.images.shape[1])
    return model.to(rank.device, memory_format=torch.channels_last)


def ours(task: Task, options: TrainOptions, rank: Rank) -> float:
    model = new_model(task, rank)
    reports: list[EpochReport] = []
    fit(model, build_optimizer(model, options), task, options, rank, first_epoch=0, on_epoch=reports.append)
    return statistics.median(report.images_per_second for report in reports)


def bare(task: Task, options: TrainOptions, rank: Rank) -> float:
    model = new_model(task, rank).train()
    optimizer = build_optimizer(model, options)
    images = torch.randn(BATCH_SIZE, *task.train.images.shape[1:]).to(memory_format=torch.channels_last)
    labels = torch.randint(len(task.class_names), (BATCH_SIZE,))
    steps = len(task.train) // BATCH_SIZE
    speeds = []
    for _ in range(options.epochs):
        started = time.monotonic()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        speeds.append(steps * BATCH_SIZE / (time.monotonic() - started))
    return statistics.median(speeds)


def conventional(task: Task, options: TrainOptions, rank: Rank, set_dir: Path) -> float:
    model = build_model("resnet32", num_classes=len(task.class_names), in_channels=task.train.images.shape[1]).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    normalise = transforms.Normalize(task.normalisation.mean, task.normalisation.std)
    crop = transforms.RandomCrop(task.train.images.shape[2], padding=4)
    transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise])
    loader = DataLoader(PilImages(set_dir, transform), batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    speeds = []
    for _ in range(options.epochs):
        started = time.monotonic()
        total = right = 0.0
        for images, labels in loader:
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            right += (logits.argmax(1) == labels).sum().item()
        speeds.append(len(task.train) / (time.monotonic() - started))
    return statistics.median(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set_dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.set_dir)
    options = TrainOptions(dataset=manifest.dataset, epochs=arguments.epochs, batch_size=BATCH_SIZE)
    rank = Rank(0, 1, torch.device("cpu"))
    full = supervised_task(options, arguments.set_dir, manifest, rank.device)
    task = Task(**{**vars(full), "evaluation": {}})
    speed = {
        "ours": ours(task, options, rank),
        "bare": bare(task, options, rank),
        "conventional": conventional(task, options, rank, arguments.set_dir),
    }
    print(
        f"{manifest.dataset}, {len(task.train)} images, resnet32, batch {BATCH_SIZE}, {torch.get_num_threads()} threads"
    )
    for name, images_per_second in speed.items():
        print(f"{name:<13}{images_per_second:8.0f} images/s")
    print(f"ours / bare          {speed['ours'] / speed['bare']:.2f}")
    print(f"ours / conventional  {speed['ours'] / speed['conventional']:.2f}")


if __name__ == "__main__":
    main()
