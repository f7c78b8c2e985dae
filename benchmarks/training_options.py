"""What the options of a training step are worth: memory layout, fused optimizer, short floats, torch.compile.

    python benchmarks/training_options.py [--rounds 5] [--steps 8] [--device cuda]

Steps (forward, backward, SGD) of resnet32 on one random batch of 128 images of 32x32 pixels that stays in memory. The
ways take turns, round by round, in one process; each keeps its network, so compiling is timed apart, in its first step.
Prints the median images/s over the rounds and the ratio to the first way, which is the default of `longtail train`.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from longtail.conf.options.training import TrainOptions
from longtail.models.build import build_model
from longtail.training.precision import autocast, compile_model

BATCH_SIZE = 128


class Way:
    """A network with its optimizer, and how it is stepped."""

    def __init__(
        self,
        device: torch.device,
        *,
        layout: torch.memory_format = torch.channels_last,
        fused: bool = True,
        precision: str = "float32",
        compile: str = "off",
    ) -> None:
        torch.manual_seed(0)
        model = build_model("resnet32", num_classes=10, in_channels=3).to(device, memory_format=layout)
        self.device, self.precision = device, precision
        self.model = compile_model(model, TrainOptions(compile=compile), device)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4, fused=fused)
        self.images = torch.randn(BATCH_SIZE, 3, 32, 32, device=device).to(memory_format=layout)
        self.labels = torch.randint(10, (BATCH_SIZE,), device=device)

    def seconds(self, num_steps: int) -> float:
        started = time.monotonic()
        for _ in range(num_steps):
            self.optimizer.zero_grad(set_to_none=True)
            with autocast(self.precision, self.device):
                logits = self.model(self.images)
            F.cross_entropy(logits.float(), self.labels).backward()
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    device = arguments.device
    ways = {
        "default (channels last, fused, float32)": Way(device),
        "channels first": Way(device, layout=torch.contiguous_format),
        "optimizer not fused": Way(device, fused=False),
        "bfloat16": Way(device, precision="bfloat16"),
        "compiled": Way(device, compile="default"),
        "bfloat16, compiled": Way(device, precision="bfloat16", compile="default"),
    }
    if device.type == "cuda":
        ways["bfloat16, graphs"] = Way(device, precision="bfloat16", compile="cuda_graphs")
    first = {name: way.seconds(1) for name, way in ways.items()}
    for way in ways.values():
        way.seconds(2)
    seconds = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            seconds[name].append(way.seconds(arguments.steps))
    base = next(iter(seconds.values()))
    print(f"resnet32, batch {BATCH_SIZE}, {device}, {torch.get_num_threads()} threads")
    for name, times in seconds.items():
        speed = arguments.steps * BATCH_SIZE / statistics.median(times)
        ratio = statistics.median([ours / theirs for ours, theirs in zip(base, times, strict=True)])
        print(f"{name:<42}{speed:8.0f} images/s {ratio:6.2f} x   first step {first[name]:5.1f} s")


if __name__ == "__main__":
    main()
