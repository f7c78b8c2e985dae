"""FixMatch here and in semilearn (USB's library): the same images, network, batches and steps; accuracy and images/s.

    python benchmarks/semilearn_peer.py --set_dir datasets/prepared/cifar10-... --semilearn_python VENV/bin/python
        [--arch resnet20] [--epochs 10] [--batch_size 32] [--ratio 2] [--seeds 0,1,2] [--threads 1]

--set_dir is a prepared set with an unlabeled part; --semilearn_python is an interpreter in whose environment semilearn
and torch are installed (without the torchaudio that it brings, if that is of another build than torch). Both train
--epochs epochs of as many steps, with SGD (Nesterov) and 7/16 of a cosine, an average of the weights and a threshold of
0.95. The network is longtail's in both: semilearn takes any. What differs is what each library does for itself:
semilearn augments PIL images in 3 worker processes, longtail whole batches of tensors; the square that is cut out has
half the side here and up to half there, and semilearn spares batch norm the weight decay.

The two take turns, seed by seed; both have all views in one batch.
images/s are labelled and unlabeled images, each counted once, of the epochs after the first, without evaluation. p is
that of Student's t-test over the pairs of a seed.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.stats import ttest_1samp

REPOSITORY = Path(__file__).parents[1]
SEMILEARN = "semilearn"
THRESHOLD, LEARNING_RATE, WEIGHT_DECAY = 0.95, 0.03, 5e-4
OPERATIONS = 3
"""Of RandAugment on a strong view, as semilearn has them; the paper has 2."""
EMA = 0.95
"""For a few hundred steps; semilearn never forgets its first weights faster than this says."""


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set_dir", type=Path, required=True)
    parser.add_argument(
        "--semilearn_python", type=Path, help="interpreter that has semilearn; it is started once a seed"
    )
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--ratio", type=int, default=2)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)  # given to the peer: where they lie for it
    return parser.parse_args()


def longtail(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """A whole run in a directory that is removed. Accuracy %, and images/s by its own events."""
    from longtail.conf.options.semi import TrainSemiOptions
    from longtail.training.distributed import Rank
    from longtail.training.run import run_training
    from longtail.training.run_directory import RunPaths

    options = TrainSemiOptions(
        dataset="cifar10", imb_factor_unlabel=1.0, semi_method="fixmatch", arch=arguments.arch, seed=seed,
        epochs=arguments.epochs, batch_size=arguments.batch_size, unlabeled_ratio=arguments.ratio,
        strong_operations=OPERATIONS, confidence_threshold=THRESHOLD, ema_decay=EMA, learning_rate=LEARNING_RATE,
        nesterov=True, weight_decay=WEIGHT_DECAY, lr_schedule="cosine_7_16", eval_every=arguments.epochs,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        paths = RunPaths(set_dir=arguments.set_dir, run_dir=run, events_dir=Path(directory) / "events")
        result = run_training(options, paths, Rank(0, 1, device), attempt=1)
        files = paths.events_dir.glob("*-epoch*.parquet")
        events = [row for file in files for row in pq.read_table(file).to_pylist()]
    speeds = {e["epoch"]: e["images_per_second"] for e in events if e["kind"] == "class" and e["epoch"] > 1}
    return {"accuracy": 100 * result["splits"]["test"]["accuracy"], "speed": statistics.harmonic_mean(speeds.values())}


def write_images(arguments: argparse.Namespace, file: Path) -> None:
    """The parts of the set as plain arrays, and its normalisation."""
    from longtail.conf.datasets import dataset_facts
    from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
    from longtail.data.loader import load_split
    from longtail.data.manifest import read_manifest

    manifest = read_manifest(arguments.set_dir)
    parts = {split: load_split(arguments.set_dir, split, manifest) for split in (TRAIN, UNLABELED, TEST)}
    facts = dataset_facts("cifar10")
    np.savez(
        file, labelled=parts[TRAIN].images, labels=parts[TRAIN].labels, unlabeled=parts[UNLABELED].images,
        test=parts[TEST].images, test_labels=parts[TEST].labels, mean=facts.mean, std=facts.std,
    )  # fmt: skip


def semilearn(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """The same in an interpreter of its own."""
    given = [
        f"--{name}={value}" for name, value in vars(arguments).items() if name not in ("semilearn_python", "seeds")
    ]
    command = [str(arguments.semilearn_python), __file__, *given, f"--seeds={seed}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"semilearn failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def as_peer(arguments: argparse.Namespace) -> dict[str, float]:
    """Runs in semilearn's environment; of longtail it knows the network alone."""
    for name in ("aim", "wandb", "torchaudio"):  # it imports them for loggers and sounds, which are not used here
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = importlib.util.module_from_spec(ModuleSpec(name, None))
    from semilearn.algorithms.fixmatch import FixMatch
    from semilearn.algorithms.hooks import FixedThresholdingHook, PseudoLabelingHook
    from semilearn.core.hooks import DistSamplerSeedHook, EMAHook, ParamUpdateHook
    from semilearn.datasets.augmentation import RandAugment
    from semilearn.datasets.cv_datasets.datasetbase import BasicDataset
    from semilearn.lighting.config import get_config
    from torch import nn
    from torchvision import transforms

    from longtail.models.build import build_model

    seed = int(arguments.seeds)
    torch.manual_seed(seed)
    arrays = np.load(arguments.images)
    if not torch.cuda.is_available():  # its algorithms move what they are given to a GPU, whatever they are told
        torch.Tensor.cuda = lambda self, *_, **__: self

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_model(arguments.arch, num_classes=10, in_channels=3)

        def forward(self, images):
            features = self.network.features(images)
            return {"logits": self.network.fc(features), "feat": features}

    size = arrays["labelled"].shape[1]
    normalise = [transforms.ToTensor(), transforms.Normalize(arrays["mean"], arrays["std"])]
    crop = [transforms.RandomCrop(size, padding=size // 8, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
    weak = transforms.Compose([*crop, *normalise])
    strong = transforms.Compose([*crop, RandAugment(OPERATIONS, 5), *normalise])

    def dataset(images, labels, transform, *, unlabeled: bool = False):
        return BasicDataset("fixmatch", images, labels, 10, transform, unlabeled, strong if unlabeled else None, False)

    class OnTheseImages(FixMatch):
        def set_dataset(self):
            return {
                "train_lb": dataset(arrays["labelled"], arrays["labels"], weak),
                "train_ulb": dataset(arrays["unlabeled"], None, weak, unlabeled=True),
                "eval": dataset(arrays["test"], arrays["test_labels"], transforms.Compose(normalise)),
                "test": None,
            }

        def set_hooks(self):
            """What learning needs; without its evaluations, logs and checkpoints."""
            self.register_hook(PseudoLabelingHook(), "PseudoLabelingHook")
            self.register_hook(FixedThresholdingHook(), "MaskingHook")
            self.register_hook(ParamUpdateHook(), None, "HIGHEST")
            self.register_hook(EMAHook(), None, "HIGH")
            self.register_hook(DistSamplerSeedHook(), None, "NORMAL")

    steps = -(-len(arrays["labels"]) // arguments.batch_size)
    config = get_config({
        "algorithm": "fixmatch", "epoch": arguments.epochs, "num_train_iter": arguments.epochs * steps,
        "batch_size": arguments.batch_size, "uratio": arguments.ratio, "eval_batch_size": 500, "optim": "SGD",
        "lr": LEARNING_RATE, "momentum": 0.9, "weight_decay": WEIGHT_DECAY, "ema_m": EMA, "p_cutoff": THRESHOLD,
        "hard_label": True, "num_classes": 10, "seed": seed,
    })  # fmt: skip
    config.gpu, config.rank, config.distributed, config.world_size = (
        0 if torch.cuda.is_available() else None,
        0,
        False,
        1,
    )
    algorithm = OnTheseImages(config, lambda **_: Network(), tb_log=None, logger=None)
    if torch.cuda.is_available():
        algorithm.model, algorithm.ema_model = algorithm.model.cuda(), algorithm.ema_model.cuda()
    begun = []
    before = algorithm.call_hook

    def call_hook(name, *given, **named):
        if name == "before_train_step" and algorithm.it % steps == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begun.append(time.perf_counter())
        return before(name, *given, **named)

    algorithm.call_hook = call_hook
    algorithm.epoch = 0
    algorithm.train()
    seconds = time.perf_counter() - begun[1]
    accuracy = algorithm.evaluate()["eval/top-1-acc"]
    images = (arguments.epochs - 1) * steps * arguments.batch_size * (1 + arguments.ratio)
    return {"accuracy": 100 * accuracy, "speed": images / seconds}


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    if arguments.images:
        print(json.dumps(as_peer(arguments)))
        return
    ways = {"longtail": longtail}
    if arguments.semilearn_python:
        ways = {SEMILEARN: semilearn, **ways}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as directory:
        arguments.images = Path(directory) / "images.npz"
        write_images(arguments, arguments.images)
        for seed in map(int, arguments.seeds.split(",")):
            for name, train in ways.items():
                found[name].append(train(arguments, seed))
                print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{arguments.threads} CPU threads"
    print(f"{arguments.arch}, {arguments.epochs} epochs, {device}")
    for name, results in found.items():
        accuracies, speeds = ([result[key] for result in results] for key in ("accuracy", "speed"))
        spread = f" +- {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        line = (
            f"{name:16} accuracy {statistics.mean(accuracies):.2f}{spread} %, {statistics.median(speeds):,.0f} images/s"
        )
        if SEMILEARN in found and name != SEMILEARN:
            pairs = list(zip(results, found[SEMILEARN], strict=True))
            ratio = statistics.median(ours["speed"] / theirs["speed"] for ours, theirs in pairs)
            line += f", {ratio:.2f} times semilearn's (median over the seeds)"
            differences = [ours["accuracy"] - theirs["accuracy"] for ours, theirs in pairs]
            line += f", accuracy {statistics.mean(differences):+.2f} points"
            if len(differences) > 1:
                line += f" (p = {ttest_1samp(differences, 0).pvalue:.2f})"
        print(line)


if __name__ == "__main__":
    main()
