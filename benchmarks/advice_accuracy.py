"""How often `advise` is right, on generated cases whose true values are known.

    python benchmarks/advice_accuracy.py [--dataset digits] [--seeds 10] [--first_seed 0] [--output FILE.jsonl]
        [--gain_seeds 0 [--gain_cases 1:1.0,1:0.4]] [--ssp_gain_seeds 0 [--gains_alone]] [--work_dir DIR]

Seven of the ten classes of a data set are the classes; images of the other three are
irrelevant (SETTINGS chooses them and the number of labels). A case is a rho_U (below
1: the tail is reversed) and a relevance of the unlabeled images. For each seed a base
classifier is trained on four fifths of the labels, and `advise` gets its predictions;
each case draws its unlabeled images from those without a label. Prints, over seeds
and cases, the errors of the estimates, how often the 90 % intervals contain the true
value, and the verdicts. With --gain_seeds a network is also trained on the
pseudo-labels of a case and compared with the base classifier on test images, with
--ssp_gain_seeds one from rotation pre-training, and one from scratch for as many
epochs as both of its trainings together: the verdicts stand beside the mean gain of
the case. --gains_alone leaves out the cases. Trains in this process, without Spark; on
digits a seed takes about half a minute on a free core, its gains two more.
"""

import argparse
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.special import logsumexp
from scipy.stats import t as student

from longtail.conf.arguments import resolve_options
from longtail.conf.base.files import content_hash
from longtail.conf.options.data import DataOptions
from longtail.conf.options.pretraining import PretrainRotOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import (
    CONFIDENCE,
    HIDDEN_LABEL,
    ID,
    IMAGE,
    LABEL,
    PREPARED_SCHEMA,
    PROBABILITIES,
    PSEUDO_LABEL,
    PSEUDO_LABEL_SCHEMA,
    RAW,
    ROUND,
    SPLIT,
    split_directory,
)
from longtail.data.loader import decode_images
from longtail.data.longtail import head_half, labelled_counts, unlabeled_counts, validation_counts
from longtail.data.manifest import Manifest
from longtail.data.sources.registry import SOURCES
from longtail.spark_jobs.advising.classifier_output import ClassifierOutput, HeldOutOutput
from longtail.spark_jobs.advising.estimates import estimate_unlabeled
from longtail.spark_jobs.advising.rules import advise_on_self_supervision, advise_on_unlabeled
from longtail.training.distributed import Rank
from longtail.training.inference import infer
from longtail.training.run import run_training
from longtail.training.run_directory import RunPaths

NUM_CLASSES = 7
RELEVANCES = (1.0, 0.7, 0.4)
VAL_FRACTION = 0.2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Cases of a data set.

    rho, n_max: of the labels; size_factor: relevant unlabeled images per label; test_images: of each class
    is_shuffled: a seed draws which classes are the classes, in which order, and which are irrelevant; else the first
    seven, in theirs, are the classes
    shrunk: so many pixels a side become one, their mean
    """

    rho: int
    n_max: int
    size_factor: float
    test_images: int
    is_shuffled: bool
    shrunk: int
    options: dict[str, int]

    @property
    def cases(self) -> list[tuple[float, float]]:
        """rho_U and relevance."""
        return [(rho, relevance) for rho in (1, self.rho, 1 / self.rho) for relevance in RELEVANCES]


SETTINGS = {
    "digits": Setting(
        rho=20, n_max=40, size_factor=2.0, test_images=50, is_shuffled=False, shrunk=1,
        options={"epochs": 40, "batch_size": 32},
    ),
    "fashion_mnist": Setting(
        rho=10, n_max=400, size_factor=1.5, test_images=200, is_shuffled=True, shrunk=2,
        options={"epochs": 20, "batch_size": 32},
    ),
}  # fmt: skip
ALONE = Rank(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Images:
    """pixels: (N, height, width, channels) uint8; labels: (N,); a label of NUM_CLASSES or more is irrelevant"""

    pixels: np.ndarray
    labels: np.ndarray

    def __getitem__(self, places: np.ndarray) -> "Images":
        return Images(self.pixels[places], self.labels[places])


def read_images(dataset: str, data_dir: Path) -> tuple[Images, Images]:
    """Training and test images, labels as the data set numbers them."""
    source, options = SOURCES[dataset], resolve_options(DataOptions, {"dataset": dataset, "data_dir": data_dir})
    located = source.locate(options)
    rows = pa.Table.from_batches([source.read(shard) for shard in located.shards])
    pixels = decode_images(rows[IMAGE], located.image_shape, located.encoding)
    pixels = shrink(pixels, SETTINGS[dataset].shrunk)
    labels, splits = rows[LABEL].to_numpy(), np.array(rows[SPLIT].to_pylist())
    train, test = (Images(pixels[splits == split], labels[splits == split]) for split in (TRAIN, TEST))
    return train, test


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """(N, height/side, width/side, channels) uint8 of (N, height, width, channels)."""
    num_images, height, width, channels = pixels.shape
    blocks = pixels.reshape(num_images, height // side, side, width // side, side, channels)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def write_set(set_dir: Path, parts: dict[str, Images]) -> Path:
    """A prepared set of these parts, with ids by place."""
    first_id, counts, num_classless = 0, {}, 0
    for split, images in parts.items():
        known = [int(label) if label < NUM_CLASSES else None for label in images.labels]
        hidden = split == UNLABELED
        rows = {
            ID: np.arange(first_id, first_id + len(known)),
            IMAGE: [image.tobytes() for image in images.pixels],
            LABEL: [None] * len(known) if hidden else known,
            HIDDEN_LABEL: known if hidden else [None] * len(known),
        }
        schema = pa.schema([field for field in PREPARED_SCHEMA if field.name != SPLIT])
        directory = split_directory(set_dir, split)
        directory.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows, schema=schema), directory / "part-0.parquet", write_page_checksum=True)
        first_id += len(known)
        counts[split] = np.bincount(images.labels, minlength=NUM_CLASSES)[:NUM_CLASSES].tolist()
        num_classless += known.count(None)
    pixels = parts[TRAIN].pixels / 255
    Manifest(
        dataset=set_dir.name,
        parameters={},
        class_names=[str(label) for label in range(NUM_CLASSES)],
        image_shape=pixels.shape[1:],
        encoding=RAW,
        counts={UNLABELED: [0] * NUM_CLASSES, **counts},
        num_classless=num_classless,
        num_bad_images=0,
        channel_mean=pixels.mean(axis=(0, 1, 2)).tolist(),
        channel_std=pixels.std(axis=(0, 1, 2)).tolist(),
        duplicates=[],
        checksums={},
        source="advice_accuracy",
    ).write(set_dir)
    return set_dir


class Trial:
    """One seed: its labelled images, its base classifier, and what that says."""

    def __init__(self, train: Images, test: Images, *, dataset: str, seed: int, directory: Path) -> None:
        setting = SETTINGS[dataset]
        self._rng = np.random.default_rng(seed)
        self._dataset, self._seed, self._directory = dataset, seed, directory
        self._options = {"arch": "resnet20", **setting.options, "eval_every": setting.options["epochs"]}
        if setting.is_shuffled:
            numbers = self._rng.permutation(10)
            train, test = (Images(images.pixels, numbers[images.labels]) for images in (train, test))
        tested = [np.flatnonzero(test.labels == label)[: setting.test_images] for label in range(NUM_CLASSES)]
        labelled = labelled_counts(NUM_CLASSES, imb_type="exp", imb_factor=1 / setting.rho, n_max=setting.n_max)
        held_out = validation_counts(labelled, val_fraction=VAL_FRACTION)
        self.labelled = labelled
        self.is_head = head_half(labelled)
        by_class = [self._rng.permutation(np.flatnonzero(train.labels == label)) for label in range(10)]
        self._train, self._left = train, [
            places[labelled[label] :] if label < NUM_CLASSES else places for label, places in enumerate(by_class)
        ]  # fmt: skip
        self._unlabeled_counts = {
            rho: unlabeled_counts(labelled, imb_factor_unlabel=1 / rho, unlabel_size_factor=setting.size_factor)
            for rho, _ in setting.cases
        }
        of_classes = by_class[:NUM_CLASSES]
        val = np.concatenate([places[:n] for places, n in zip(of_classes, held_out, strict=True)])
        learned = np.concatenate(
            [places[n:size] for places, n, size in zip(of_classes, held_out, labelled, strict=True)]
        )
        self._parts = {TRAIN: train[learned], VAL: train[val], TEST: test[np.concatenate(tested)]}
        self._set_dir = write_set(directory / "labelled", self._parts)
        self.base, base_accuracy = self._run(TrainOptions, "base", self._set_dir)
        self.base_accuracy = base_accuracy
        val = self._parts[VAL]
        self._held_out = HeldOutOutput(**vars(self.predict(val)), labels=val.labels)

    def predict(self, images: Images) -> ClassifierOutput:
        """The outputs that spark_jobs/advising/diagnosis.py reads from the tables of `evaluate`."""
        found = infer(self.base, content_hash(self.base), images.pixels, batch_size=500, with_features=True)
        assert found.features is not None
        logits = found.logits.double().numpy()
        return ClassifierOutput(
            predicted=logits.argmax(axis=1),
            features=found.features.numpy(),
            head_log_odds=logsumexp(logits[:, self.is_head], axis=1) - logsumexp(logits[:, ~self.is_head], axis=1),
        )

    def draw(self, rho_unlabeled: float, relevance: float) -> Images:
        """The unlabeled images of a case."""
        counts = self._unlabeled_counts[rho_unlabeled]
        chosen = [
            self._rng.choice(places, size=count, replace=False)
            for places, count in zip(self._left[:NUM_CLASSES], counts, strict=True)
        ]
        others = np.concatenate(self._left[NUM_CLASSES:])
        num_others = round(sum(counts) * (1 - relevance) / relevance)
        return self._train[np.concatenate([*chosen, self._rng.choice(others, size=num_others, replace=False)])]

    def advise(self, rho_unlabeled: float, relevance: float, unlabeled: Images) -> dict[str, Any]:
        """The case's true values, estimates and verdicts."""
        output = self.predict(unlabeled)
        found = estimate_unlabeled(self._held_out, output, is_head=self.is_head)
        sizes, of_classes = np.bincount(unlabeled.labels, minlength=10)[:NUM_CLASSES], unlabeled.labels < NUM_CLASSES
        tail_share = float(np.array(self.labelled)[~self.is_head].sum() / sum(self.labelled))
        true = {
            "relevance": float(sizes.sum() / len(unlabeled.labels)),
            "tail_share": float(sizes[~self.is_head].sum() / sizes.sum()),
            "rho": rho_unlabeled,
            "pseudo_label_accuracy": float(np.mean((output.predicted == unlabeled.labels)[of_classes])),
        }
        on_self_supervision = advise_on_self_supervision(found, num_labelled=sum(self.labelled))
        advice = advise_on_unlabeled(found, tail_share=tail_share)
        estimated = {
            name: [getattr(found, name).value, getattr(found, name).low, getattr(found, name).high] for name in true
        }
        return {
            "case": [rho_unlabeled, relevance], "seed": self._seed, "true": true, "estimated": estimated,
            "unlabeled": advice.summary, "self_supervision": on_self_supervision.summary,
        }  # fmt: skip

    def gain_of_unlabeled(self, name: str, unlabeled: Images) -> float:
        """Balanced test accuracy with pseudo-labels of these images, less that without."""
        set_dir = write_set(self._directory / f"{name}-set", {**self._parts, UNLABELED: unlabeled})
        found = infer(self.base, content_hash(self.base), unlabeled.pixels, batch_size=500)
        probabilities = found.logits.softmax(dim=1).numpy()
        first_id = sum(len(images.labels) for images in self._parts.values())
        rows = {
            ID: np.arange(first_id, first_id + len(probabilities)),
            PSEUDO_LABEL: probabilities.argmax(axis=1).astype(np.int32),
            CONFIDENCE: probabilities.max(axis=1),
            PROBABILITIES: list(probabilities),
            ROUND: np.ones(len(probabilities), np.int32),
        }
        table = self._directory / f"{name}-labels.parquet"
        table.mkdir(exist_ok=True)
        pq.write_table(pa.table(rows, schema=PSEUDO_LABEL_SCHEMA), table / "part-0.parquet", write_page_checksum=True)
        _, accuracy = self._run(
            TrainSemiOptions, name, set_dir, pseudo_labels=table, imb_factor_unlabel=1.0,
            batch_size=2 * self._options["batch_size"],
        )  # fmt: skip
        return accuracy - self.base_accuracy

    def gain_of_self_supervision(self) -> float:
        """Balanced test accuracy from rotation pre-training on the labelled images, less that without."""
        start, _ = self._run(PretrainRotOptions, "rotation", self._set_dir)
        _, accuracy = self._run(TrainOptions, "pretrained", self._set_dir, pretrained_model=start)
        return accuracy - self.base_accuracy

    def gain_of_longer_training(self) -> float:
        """Balanced test accuracy after twice the epochs, those of the pre-training and of the training after it."""
        epochs = 2 * self._options["epochs"]
        _, accuracy = self._run(TrainOptions, "longer", self._set_dir, epochs=epochs, eval_every=epochs)
        return accuracy - self.base_accuracy

    def _run(self, options_type: type[RunOptions], name: str, set_dir: Path, **values: Any) -> tuple[Path, float]:
        """Checkpoint and balanced test accuracy of a training."""
        values = {"dataset": self._dataset, "seed": self._seed, **self._options, **values}
        run_dir = self._directory / name
        paths = RunPaths(
            set_dir=set_dir, run_dir=run_dir, events_dir=self._directory / "events",
            pseudo_labels=values.get("pseudo_labels"),
        )  # fmt: skip
        result = run_training(resolve_options(options_type, values), paths, ALONE, attempt=1)
        return run_dir / "ckpt.pth.tar", result["splits"][TEST]["balanced_accuracy"]


def measure(arguments: argparse.Namespace, work_dir: Path) -> Iterator[dict[str, Any]]:
    """One row per seed, and one per seed and case."""
    train, test = read_images(arguments.dataset, arguments.data_dir)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        trial = Trial(train, test, dataset=arguments.dataset, seed=seed, directory=work_dir / str(seed))
        gain = longer_gain = None
        if seed < arguments.first_seed + arguments.ssp_gain_seeds:
            gain, longer_gain = trial.gain_of_self_supervision(), trial.gain_of_longer_training()
        yield {"seed": seed, "base": trial.base_accuracy, "ssp_gain": gain, "longer_gain": longer_gain}
        if arguments.gains_alone:
            continue
        for number, case in enumerate(SETTINGS[arguments.dataset].cases):
            unlabeled = trial.draw(*case)
            row = trial.advise(*case, unlabeled)
            is_trained = seed < arguments.first_seed + arguments.gain_seeds
            is_trained &= arguments.gain_cases is None or case in arguments.gain_cases
            yield {**row, "gain": trial.gain_of_unlabeled(f"semi{number}", unlabeled) if is_trained else None}


def report(rows: Sequence[dict[str, Any]]) -> None:
    cases = [row for row in rows if "case" in row]
    if cases:
        report_cases(cases)
    of_seeds = [row for row in rows if "base" in row]
    verdicts = Counter({row["seed"]: row["self_supervision"] for row in cases}.values())
    counted = ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common())
    print(f"self-supervision    {counted:<64}{gain_of([row['ssp_gain'] for row in of_seeds]):>16}")
    print(f"{'as many epochs from scratch':<84}{gain_of([row['longer_gain'] for row in of_seeds]):>16}")
    pairs = [row for row in of_seeds if row["ssp_gain"] is not None]
    beyond = gain_of([row["ssp_gain"] - row["longer_gain"] for row in pairs])
    print(f"{'self-supervision beyond these':<84}{beyond:>16}")


def report_cases(cases: Sequence[dict[str, Any]]) -> None:
    drawn = list(dict.fromkeys(tuple(row["case"]) for row in cases))
    print(f"{len(cases)} cases: {len({row['seed'] for row in cases})} seeds x {len(drawn)} of rho_U x relevance")
    print(f"{'estimate':<24}{'median error':>14}{'90 % within':>14}{'inside the interval':>22}")
    for name in cases[0]["true"]:
        is_ratio = name == "rho"
        errors = [
            abs(math.log(row["estimated"][name][0] / row["true"][name])) if is_ratio
            else abs(row["estimated"][name][0] - row["true"][name])
            for row in cases
        ]  # fmt: skip
        inside = fmean(row["estimated"][name][1] <= row["true"][name] <= row["estimated"][name][2] for row in cases)
        middle, most = (
            f"x {math.exp(value):.2f}" if is_ratio else f"{value:.3f}"
            for value in (median(errors), np.quantile(errors, 0.9))
        )
        print(f"{name:<24}{middle:>14}{most:>14}{100 * inside:>20.0f} %")
    print(f"\n{'rho_U':>7}{'relevance':>11}  {'verdicts':<64}{'gain, points':>16}")
    for case in drawn:
        of_case = [row for row in cases if tuple(row["case"]) == case]
        verdicts = Counter(row["unlabeled"] for row in of_case)
        counted = ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common())
        print(f"{case[0]:>7.3g}{case[1]:>11}  {counted:<64}{gain_of([row['gain'] for row in of_case]):>16}")


def gain_of(gains: Sequence[float | None]) -> str:
    """Mean over the seeds and half of its 90 % interval, in points."""
    known = [100 * gain for gain in gains if gain is not None]
    if len(known) < 2:
        return "-"
    return f"{fmean(known):+.1f} +- {student.ppf(0.95, len(known) - 1) * stdev(known) / math.sqrt(len(known)):.1f}"


def cases_of(text: str) -> list[tuple[float, float]]:
    return [(float(rho), float(relevance)) for rho, relevance in (case.split(":") for case in text.split(","))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=SETTINGS, default="digits")
    parser.add_argument("--data_dir", type=Path, default=Path("datasets"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--gain_seeds", type=int, default=0, help="seeds that also train on the pseudo-labels")
    parser.add_argument("--gain_cases", type=cases_of, help="only of these, as 1:1.0,1:0.4 (rho_U:relevance)")
    parser.add_argument(
        "--ssp_gain_seeds", type=int, default=0, help="seeds that also pre-train by rotation, and longer"
    )
    parser.add_argument("--gains_alone", action="store_true", help="of pre-training and longer training, no cases")
    parser.add_argument("--work_dir", type=Path, help="where trainings are kept: those that are there are not repeated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="file for the rows, a line each")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for row in measure(arguments, arguments.work_dir or Path(temporary)):
            rows.append(row)
            if arguments.output:
                with arguments.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    report(rows)


if __name__ == "__main__":
    main()
