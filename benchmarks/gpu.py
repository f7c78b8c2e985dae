"""What training on one GPU gives, most valuable first, within a number of minutes.

    python -m benchmarks.gpu --set_dir datasets/prepared/cifar10-... [--minutes 10] [--output gpu-results]

--set_dir: CIFAR-10-LT, all 5,000 images in the head class, rho 100 (12,406 images), as the paper's rows need it
--output: directory of the results; kept runs are in its runs/, so that the same command goes on

1. equality: the losses of steps replayed as CUDA graphs beside those of single steps, in float32;
2. speed: images/s for each value of --compile in bfloat16, and the seconds until the first epoch is over;
3. peers: bare steps on one batch, and the conventional loop (benchmarks/training_epoch.py);
4. time: shares of the kernels' time in an epoch of replayed steps, and of the time in which none runs;
5. side by side: images/s of 2, 4 and 8 trainings in one process together;
6. whole: seconds of 200 epochs, tested after each, with their start;
7. rows: CE, CE after rotation, LDAM-DRW and LDAM-DRW after rotation with the published recipe, seeds side by side.

Each stage prints a line of JSON, also appended to OUTPUT/gpu.jsonl, and is left out when the minutes are over or the
machine lacks what it needs. Without a GPU the stages run on the CPU as far as they can.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training_epoch import bare, conventional, operations_per_image, training_part
from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.data.manifest import Manifest, read_manifest
from longtail.training.distributed import Rank
from longtail.training.loop import EpochReport, build_optimizer, fit
from longtail.training.method import method_of
from longtail.training.precision import CUDA_GRAPHS
from longtail.training.run import run_training
from longtail.training.run_directory import RunPaths, begin_attempt, finished_run, run_paths
from longtail.training.set_options import options_with_set
from longtail.training.side_by_side import Training, run_side_by_side

Result = dict[str, Any]

PAPER = {"CE": {}, "LDAM-DRW": {"loss_type": "LDAM", "train_rule": "DRW"}}
"""Arms of the paper's tables of CIFAR-10-LT; each also after rotation."""


class Bench:
    """The set, the device and the options of all stages."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.set_dir, self.output = arguments.set_dir, arguments.output
        self.small = arguments.small
        self.manifest: Manifest = read_manifest(self.set_dir)
        self.device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        self.rank = Rank(0, 1, self.device)
        self.precision = "bfloat16" if self.device.type == "cuda" else "float32"
        self.graphs = "cuda_graphs" if self.device.type == "cuda" else "off"
        self.ends_at = time.monotonic() + 60 * arguments.minutes

    @property
    def seconds_left(self) -> float:
        return self.ends_at - time.monotonic()

    def options(self, kind: type[RunOptions] = TrainOptions, **changes: Any) -> RunOptions:
        usual = {"arch": "resnet20" if self.small else "resnet32", "runs_dir": str(self.output / "runs")}
        return options_with_set(kind, {**usual, **changes}, self.manifest, set_dir=self.set_dir)

    def epochs(self, number: int) -> int:
        return 2 if self.small else number

    def fitted(self, options: RunOptions, on_epoch: Callable[[EpochReport], None]) -> None:
        """Train without files."""
        method, paths = method_of(options), RunPaths(set_dir=self.set_dir, run_dir=self.output, events_dir=self.output)
        task = method.task(options, paths, self.manifest, self.rank)
        task, network = method.network(options, task, self.rank)
        task, model = method.trained_module(network, options, paths, task, self.rank)
        fit(model, build_optimizer(model, options), task, options, self.rank, first_epoch=0, on_epoch=on_epoch)


def equality(bench: Bench) -> Iterator[Result]:
    losses: dict[str, list[list[float]]] = {}
    for compile in ("off", *CUDA_GRAPHS) if bench.device.type == "cuda" else ("off",):
        found = losses[compile] = []
        options = bench.options(epochs=2, compile=compile, learning_rate=0.01)
        bench.fitted(options, lambda report, found=found: found.append(report.totals["train"]["loss_sum"]))
        pairs = [
            abs(a - b) / max(b, 1e-9)
            for ours, theirs in zip(found, losses["off"], strict=True)
            for a, b in zip(ours, theirs, strict=True)
        ]
        yield {"compile": compile, "largest relative difference of a class's loss": max(pairs)}


def speed(bench: Bench) -> Iterator[Result]:
    for compile in ("cuda_graphs", "off", "compiled_cuda_graphs", "default") if bench.graphs != "off" else ("off",):
        reports: list[EpochReport] = []
        started = time.monotonic()
        first: list[float] = []

        def on_epoch(report: EpochReport, reports: list[EpochReport] = reports, first: list[float] = first) -> None:
            reports.append(report)
            first.append(time.monotonic())

        epochs = bench.epochs(6 if compile in ("off", "default") else 20)
        bench.fitted(bench.options(epochs=epochs, compile=compile, precision=bench.precision), on_epoch)
        rate = statistics.median(report.images_per_second for report in reports[1:])
        height, width, channels = bench.manifest.image_shape
        operations = operations_per_image(channels, height, width, bench.manifest.num_classes)
        yield {
            "compile": compile,
            "images/s": round(rate),
            "TFLOP/s": round(rate * operations / 1e12, 2),
            "epoch, with evaluation, s": round(statistics.median(report.epoch_seconds for report in reports[1:]), 3),
            "first epoch over after, s": round(first[0] - started, 1),
        }


def peers(bench: Bench) -> Iterator[Result]:
    directory = bench.output / "labelled"
    labelled = directory if directory.exists() else training_part(bench.set_dir, directory)
    options = bench.options(epochs=bench.epochs(3), precision=bench.precision)
    assert isinstance(options, TrainOptions)
    is_colour = bench.manifest.image_shape[2] == 3  # PIL's conventional images are
    for name, way in (("bare", bare), ("conventional", conventional))[: 1 + is_colour]:
        way(labelled, options.model_copy(update={"epochs": 1}), bench.device)
        started = time.monotonic()
        images = way(labelled, options, bench.device)
        yield {"peer": name, "images/s": round(images / (time.monotonic() - started))}


def shares(bench: Bench) -> Iterator[Result]:
    if bench.device.type != "cuda":
        yield {"left out": "there is no GPU whose kernels could be timed"}
        return
    profilers: list[Any] = []

    def on_epoch(report: EpochReport) -> None:
        torch.cuda.synchronize()
        if report.epoch == 4:
            profilers.append(profile(activities=[ProfilerActivity.CUDA]).__enter__())
        elif report.epoch == 5:
            profilers[0].__exit__(None, None, None)

    bench.fitted(bench.options(epochs=5, compile=bench.graphs, precision=bench.precision), on_epoch)
    events = [event for event in profilers[0].events() if str(event.device_type).endswith("CUDA")]
    by_name: dict[str, float] = {}
    for event in events:
        by_name[event.name] = by_name.get(event.name, 0.0) + event.device_time
    span = max(event.time_range.end for event in events) - min(event.time_range.start for event in events)
    busy = sum(by_name.values())
    largest = sorted(by_name.items(), key=lambda item: -item[1])[:12]
    yield {
        "share of the time in which kernels run": round(busy / span, 3),
        "kernels": len(events),
        "shares": {name[:60]: round(taken / busy, 3) for name, taken in largest},
    }


def together(bench: Bench) -> Iterator[Result]:
    for number in (2,) if bench.small else (2, 4, 8):
        epochs = bench.epochs(12)
        options = [
            bench.options(
                seed=seed, epochs=epochs, compile=bench.graphs, precision=bench.precision, exp_str=f"together{number}",
                eval_every=epochs,
            )
            for seed in range(number)
        ]  # fmt: skip
        started = time.monotonic()
        results = trained(bench, options)
        seconds = time.monotonic() - started
        images = number * epochs * bench.manifest.num_images("train")
        yield {"trainings": number, "images/s together, with start": round(images / seconds), "failed": failed(results)}


def whole(bench: Bench) -> Iterator[Result]:
    options = bench.options(
        epochs=bench.epochs(200), compile=bench.graphs, precision=bench.precision, exp_str=f"whole{time.time():.0f}"
    )
    started = time.monotonic()
    (result,) = trained(bench, [options])
    yield {"epochs": options.epochs, "seconds": round(time.monotonic() - started, 1), "error": error_of(result)}


def rows(bench: Bench) -> Iterator[Result]:
    """All arms that do not need a pre-training, with the pre-trainings; then those that do. Seeds 0 to 2."""
    common = {"epochs": bench.epochs(200), "compile": bench.graphs, "precision": bench.precision}
    seeds = (0,) if bench.small else (0, 1, 2)
    rotations = [bench.options(PretrainRotOptions, seed=seed, **common) for seed in seeds]
    from_scratch = [(name, bench.options(seed=seed, **common, **arm)) for seed in seeds for name, arm in PAPER.items()]
    everything = [*rotations, *(options for _, options in from_scratch)]
    results = trained(bench, everything)
    for (name, options), result in zip(from_scratch, results[len(rotations) :], strict=True):
        yield {"arm": name, "seed": options.seed, "error": error_of(result)}
    checkpoints = {options.seed: finished_run(paths_of(bench, options).run_dir) for options in rotations}
    pretrained = [
        (f"{name} after rotation", bench.options(seed=seed, pretrained_model=str(run.checkpoint), **common, **arm))
        for seed, run in checkpoints.items()
        if run is not None
        for name, arm in PAPER.items()
    ]
    if pretrained and bench.seconds_left > 0:
        results = trained(bench, [options for _, options in pretrained])
        for (name, options), result in zip(pretrained, results, strict=True):
            yield {"arm": name, "seed": options.seed, "error": error_of(result)}


def paths_of(bench: Bench, options: RunOptions) -> RunPaths:
    return run_paths(options, set_dir=bench.set_dir, pseudo_labels=None)


def trained(bench: Bench, all_options: list[RunOptions]) -> list[Result | Exception]:
    """Results of the runs; those that are not finished are trained side by side."""
    paths = [paths_of(bench, options) for options in all_options]
    to_do = [
        Training(options, place, begin_attempt(place, options))
        for options, place in zip(all_options, paths, strict=True)
        if finished_run(place.run_dir) is None
    ]
    if len(to_do) == 1:
        run_training(to_do[0].options, to_do[0].paths, bench.rank, attempt=to_do[0].attempt)
    elif to_do:
        for training, result in zip(to_do, run_side_by_side(to_do, bench.rank), strict=True):
            if isinstance(result, Exception):
                print(f"{training.paths.run_dir.name}: {result}", file=sys.stderr)
    runs = [finished_run(place.run_dir) for place in paths]
    return [run.result if run else RuntimeError("not finished") for run in runs]


def failed(results: list[Result | Exception]) -> int:
    return sum(isinstance(result, Exception) for result in results)


def error_of(result: Result | Exception) -> float | str:
    """Test error in per cent, as the paper has it."""
    return str(result) if isinstance(result, Exception) else round(100 - 100 * result["splits"]["test"]["accuracy"], 2)


STAGES = {
    "equality": equality, "speed": speed, "peers": peers, "time": shares, "side by side": together, "whole": whole,
    "rows": rows,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set_dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("gpu-results"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--small", action="store_true", help="two epochs of resnet20: to try the script itself")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments)
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    with (arguments.output / "gpu.jsonl").open("a", encoding="utf-8") as lines:
        for stage in arguments.stages:
            if bench.seconds_left <= 0:
                print(f"{stage}: left out, the minutes are over")
                continue
            for result in STAGES[stage](bench):
                line = json.dumps({"stage": stage, "device": name, "torch": torch.__version__, **result})
                print(line, flush=True)
                lines.write(line + "\n")
                lines.flush()


if __name__ == "__main__":
    main()
