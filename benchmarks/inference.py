"""Where the time of evaluation and pseudo-labelling goes: both in inference mode, beside the bare forward passes.

    python benchmarks/inference.py [--images 4000] [--rounds 3] [--device cuda]

A resnet32 and random images of 32x32 pixels. In turns, round by round, in one process:

- bare: forward passes in inference mode on one batch that stays in memory, as many as evaluation takes;
- evaluation: training.evaluation.evaluate, normalisation and sums by class included;
- autograd on: the same forward passes as bare, recording what a backward pass would need;
- pseudo-labels: training.inference.infer from a checkpoint and uint8 arrays to logits (CPU only).

Prints the median images/s, the ratios to bare, and then a profile of one evaluation: the operators by their own time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from longtail.conf.base.files import content_hash
from longtail.models.build import build_model
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.checkpoints import Checkpoint, save_checkpoint
from longtail.training.distributed import Rank
from longtail.training.evaluation import EVALUATION_BATCH_SIZE, evaluate
from longtail.training.inference import infer
from longtail.training.objective import Objective, Task
from longtail.training.samples import Samples, new_samples
from longtail.training.training_data import TrainingData

NUM_CLASSES = 10
NORMALISATION = Normalisation((0.5,) * 3, (0.25,) * 3)
TOP_OPERATORS = 10


def task_of(samples: Samples) -> Task:
    counts = samples.class_counts(NUM_CLASSES)
    data = TrainingData(
        class_names=[str(number) for number in range(NUM_CLASSES)],
        class_counts=counts,
        rule_counts=counts,
        shot_groups=["many"] * NUM_CLASSES,
        train=samples,
        num_labelled=len(samples),
        held_out={},
        normalisation=NORMALISATION,
        horizontal_flip=True,
    )
    return Task(data, Objective())


def write_checkpoint(path: Path, model: torch.nn.Module, task: Task) -> None:
    metadata = CheckpointMetadata(
        run="benchmark",
        phase="train",
        arch="resnet32",
        head="linear",
        logit_scale=1.0,
        class_names=task.data.class_names,
        class_counts=task.data.class_counts,
        rule_counts=task.data.rule_counts,
        pseudo_label_round=0,
        image_shape=(32, 32, 3),
        normalisation=NORMALISATION,
        options={"dataset": "cifar10"},
    )
    save_checkpoint(
        path,
        Checkpoint(
            epoch=1, arch="resnet32", state_dict=model.state_dict(), optimizer=None, best=None, metadata=metadata
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    device, num_images = arguments.device, arguments.images
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)
    samples = new_samples(np.arange(num_images), pixels, generator.integers(0, NUM_CLASSES, num_images), 1.0)
    task, rank = task_of(samples.to(device)), Rank(0, 1, device)
    model = build_model("resnet32", num_classes=NUM_CLASSES, in_channels=3)
    model = model.to(device, memory_format=torch.channels_last).eval()
    batches = task.data.normalisation.apply(task.data.train.images[: min(num_images, EVALUATION_BATCH_SIZE)])

    def forward() -> None:
        for _ in range(-(-num_images // len(batches))):
            model(batches)

    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "ckpt.pth.tar"
        write_checkpoint(checkpoint, model, task)
        ways: dict[str, Callable[[], object]] = {
            "bare": torch.inference_mode()(forward),
            "evaluation": lambda: evaluate(model, task.data.train, task, rank),
            "autograd on": forward,
        }
        if device.type == "cpu":
            version = content_hash(checkpoint)
            ways["pseudo-labels"] = lambda: infer(checkpoint, version, pixels, batch_size=500)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(1 + arguments.rounds):
            for name, way in ways.items():
                started = time.monotonic()
                way()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[name].append(time.monotonic() - started)
    print(f"resnet32, {num_images} images of 32x32, {device}, {torch.get_num_threads()} threads")
    for name, (_, *times) in seconds.items():  # the first round warms up
        ratio = statistics.median([b / t for b, t in zip(seconds["bare"][1:], times, strict=True)])
        print(f"{name:<14}{num_images / statistics.median(times):9.0f} images/s {ratio:6.2f} x bare")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as trace:
        evaluate(model, task.data.train, task, rank)
    by = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(trace.key_averages().table(sort_by=by, row_limit=TOP_OPERATORS, max_name_column_width=40))


if __name__ == "__main__":
    main()
