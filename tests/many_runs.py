"""Tables of thirty runs as a user has them after some weeks: methods, imbalances and seeds on two data sets."""

import json
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from longtail.conf.arguments import resolve_options
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.writing import write_run
from tests.result_rows import class_rows, table

NUM_EPOCHS = 10
_ENDS = {3: "interrupted", 11: "lost", 17: "failed", 29: "running"}


def write_thirty_runs(tables_dir: Path, *, began: float = 1_795_900_000.0) -> list[str]:
    """Their names, in the order in which they were started."""
    names = []
    draw = np.random.default_rng(0)
    for number, options in enumerate(_thirty_options()):
        status = _ENDS.get(number, "finished")
        epochs = 4 if number in _ENDS else NUM_EPOCHS
        name = options.run_name({})
        at = began + 1800.0 * number
        row = {
            "run": name, "phase": options.phase, "status": status, "started_at": at, "updated_at": at + 600,
            "epoch": epochs, "num_epochs": NUM_EPOCHS, "configuration": json.dumps(options.recorded()),
            "message": "rank 1 is gone" if status == "failed" else "",
        }  # fmt: skip
        accuracies = _accuracies(options, epochs, draw)
        classes = class_rows(accuracies, run=name, phase=options.phase, accuracy_low=None, accuracy_high=None)
        summaries = table(
            "epochs",
            *(
                {"run": name, "phase": options.phase, "epoch": epoch, **_scores(accuracies, epoch)}
                for epoch in range(1, epochs + 1)
            ),
        )
        segments = {"class_epochs": {"0": classes}, "epochs": {"0": summaries}}
        manifest = RunManifest(run=name, segment_epochs={"class_epochs": 1000, "epochs": 1000, "steps": 100})
        write_run(tables_dir, manifest, segments, {"runs": table("runs", row).to_pylist()})
        names.append(name)
    return names


def _thirty_options() -> Iterator[RunOptions]:
    common = {"arch": "resnet32", "epochs": NUM_EPOCHS}
    rules = (("CE", "None"), ("CE", "Resample"), ("LDAM", "DRW"))
    for (loss, rule), factor, seed in product(rules, (0.01, 0.02), range(3)):
        values = {"dataset": "cifar10", "loss_type": loss, "train_rule": rule, "imb_factor": factor, "seed": seed}
        yield resolve_options(TrainOptions, {**common, **values})
    for balancing, seed in product(("none", "DARP"), range(3)):
        values = {"dataset": "cifar10", "semi_method": "fixmatch", "balancing": balancing, "imb_factor_unlabel": 1.0}
        yield resolve_options(TrainSemiOptions, {**common, **values, "seed": seed})
    for loss, seed in product(("CE", "BalancedSoftmax"), range(3)):
        yield resolve_options(TrainOptions, {**common, "dataset": "cifar100", "loss_type": loss, "seed": seed})


def _accuracies(options: RunOptions, epochs: int, draw: np.random.Generator) -> dict[int, list[float]]:
    """Of ten classes, the rarer the worse; better for what helps in the papers."""
    gain = 0.12 * (options.run_name({}).count("DRW") + options.run_name({}).count("Balanced")) + 0.05 * len(
        getattr(options, "balancing", "")
    )
    found: dict[int, Any] = {}
    for class_id in range(10):
        best = 0.92 - 0.07 * class_id * (1.2 - gain) + draw.normal(0, 0.02)
        rises = [best * (1 - math.exp(-epoch / (2 + class_id / 4))) for epoch in range(1, epochs + 1)]
        found[class_id] = [float(np.clip(value + draw.normal(0, 0.01), 0, 1)) for value in rises]
    return found


def _scores(accuracies: dict[int, list[float]], epoch: int) -> dict[str, float]:
    """As class_rows groups its classes."""
    many, medium, *few = (of_class[epoch - 1] for of_class in accuracies.values())
    balanced, tail = float(np.mean([many, medium, *few])), float(np.mean(few))
    return {
        "accuracy": balanced, "balanced_accuracy": balanced, "many_shot_accuracy": many, "medium_shot_accuracy": medium,
        "few_shot_accuracy": tail, "head_tail_gap": many - tail,
    }  # fmt: skip
