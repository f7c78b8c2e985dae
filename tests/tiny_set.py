"""A prepared set that a network learns in seconds: three classes of 8x8 images, told apart by where they are bright."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import CONFIDENCE, ID, PROBABILITIES, PSEUDO_LABEL, PSEUDO_LABEL_SCHEMA, ROUND
from longtail.training.distributed import Rank
from longtail.training.run_directory import RunPaths
from tests.prepared_set import image_rows, write_manifest, write_split

ALONE = Rank(0, 1, torch.device("cpu"))
"""The one rank of a training without others."""
IMAGE_SHAPE = (8, 8, 1)
COUNTS = {TRAIN: [24, 12, 4], VAL: [2, 2, 2], UNLABELED: [3, 4, 5], TEST: [10, 10, 10]}

Options = TypeVar("Options", bound=RunOptions)


def write_tiny_set(set_dir: Path, *, label_shift: int = 0, with_validation: bool = True) -> Path:
    """Write the set and return its directory.

    label_shift: give each image the label of the image so many places further on in its split; counts stay the same
    """
    generator = np.random.default_rng(0)
    counts = {**COUNTS, VAL: COUNTS[VAL] if with_validation else [0, 0, 0]}
    first_id = 0
    for split, sizes in counts.items():
        labels = np.repeat(np.arange(len(sizes)), sizes)
        images = generator.integers(0, 100, (len(labels), *IMAGE_SHAPE), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[3 * label : 3 * label + 2] += 150
        ids = list(range(first_id, first_id + len(labels)))
        first_id += len(labels)
        written = np.roll(labels, -label_shift).tolist()
        truth = {"hidden_labels": written} if split == UNLABELED else {"labels": written}
        if ids:
            write_split(set_dir, split, image_rows(ids, images, **truth), row_group_size=5)
        if split == TRAIN:
            channels = {"channel_mean": [images.mean() / 255], "channel_std": [images.std() / 255]}
    write_manifest(set_dir, counts, image_shape=IMAGE_SHAPE, **channels)
    return set_dir


def unlabeled_ids() -> list[int]:
    first = sum(COUNTS[TRAIN]) + sum(COUNTS[VAL])
    return list(range(first, first + sum(COUNTS[UNLABELED])))


def write_pseudo_labels(
    table: Path,
    ids: list[int],
    labels: list[int],
    confidences: list[float],
    *,
    probabilities: list[list[float]] | None = None,
    this_round: int = 1,
) -> Path:
    """A table as gen_pseudolabels writes it; what the labels leave of the probabilities, the other classes share."""
    if probabilities is None:
        others = [(1 - confidence) / 2 for confidence in confidences]
        probabilities = [
            [confidence if class_id == label else other for class_id in range(3)]
            for label, confidence, other in zip(labels, confidences, others, strict=True)
        ]
    table.mkdir(parents=True)
    columns = {ID: ids, PSEUDO_LABEL: labels, CONFIDENCE: confidences, PROBABILITIES: probabilities}
    rows = pa.table({**columns, ROUND: [this_round] * len(ids)}, schema=PSEUDO_LABEL_SCHEMA)
    pq.write_table(rows, table / "part-0.parquet", write_page_checksum=True)
    return table


def tiny_options(options_type: type[Options], **changes: Any) -> Options:
    """Options under which a training of the tiny set takes about a second."""
    usual = {"dataset": "digits", "arch": "resnet20", "epochs": 1, "batch_size": 16, "learning_rate": 0.05}
    return options_type(**{**usual, "many_shot": 20, "few_shot": 10, **changes})


def paths_of(set_dir: Path, run_dir: Path, *, pseudo_labels: Path | None = None) -> RunPaths:
    return RunPaths(
        set_dir=set_dir, run_dir=run_dir, events_dir=run_dir.parent / "events", pseudo_labels=pseudo_labels
    )  # fmt: skip


def weights_in(checkpoint: Path) -> dict[str, Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether all are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
