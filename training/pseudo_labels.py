"""Training on labels and pseudo-labels together (self-training).

A pseudo-label is the class that an earlier network takes an unlabeled image for, or, soft, its probabilities of all
classes. Those below the threshold of their class are left out.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from longtail.conf.base.errors import UserError
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.loader import (
    load_probabilities,
    load_pseudo_labels,
    load_published_pseudo_labels,
    load_round,
    load_split,
)
from longtail.data.manifest import Manifest
from longtail.data.storage import Place
from longtail.data.stream import StreamedImages, open_split
from longtail.training.tasks import Samples, Task, is_streamed, label_task, load_samples, new_samples


def semi_supervised_task(
    options: TrainSemiOptions, set_dir: Place, manifest: Manifest, device: torch.device, *, pseudo_labels: Path
) -> Task:
    """Labelled samples and behind them the pseudo-labelled ones; class counts are those of both."""
    streamed = stays_on_disk(options, manifest)
    labelled = load_samples(options, set_dir, TRAIN, manifest, streamed=streamed)
    pseudo = _pseudo_labelled(options, set_dir, manifest, pseudo_labels, streamed=streamed)
    if options.unlabeled_ratio is not None and not len(pseudo):
        raise UserError("no pseudo-label is confident enough for a batch: lower --confidence_threshold")
    rule_counts = labelled.class_counts(manifest.num_classes) if options.class_counts == "labelled" else None
    task = label_task(options, joined(labelled, pseudo), labelled, set_dir, manifest, device, rule_counts=rule_counts)
    return replace(
        task,
        unlabeled_ratio=options.unlabeled_ratio,
        pseudo_label_round=1 if pseudo_labels.is_file() else load_round(pseudo_labels),
    )


def stays_on_disk(options: TrainSemiOptions, manifest: Manifest) -> bool:
    """Whether the images of both parts are read from files. They become one, so both are in memory, or neither.

    Raises UserError if they do, and each step's are to be drawn from all.
    """
    streamed = is_streamed(options, manifest, (TRAIN, UNLABELED))
    if streamed and options.unlabeled_ratio is not None:
        raise UserError(
            "--unlabeled_ratio draws each step's images from all of the set, which is too large for memory: raise "
            f"--max_resident_gib (it is {options.max_resident_gib:g}), or leave the ratio out"
        )
    return streamed


def joined(labelled: Samples, pseudo: Samples) -> Samples:
    """All samples, the labelled first; soft if the others are."""
    probabilities = None
    if pseudo.probabilities is not None:
        certain = F.one_hot(labelled.labels, pseudo.probabilities.shape[1]).float()
        probabilities = torch.cat([certain, pseudo.probabilities])
    return Samples(
        torch.cat([labelled.ids, pseudo.ids]),
        _images_of_both(labelled, pseudo),
        torch.cat([labelled.labels, pseudo.labels]),
        torch.cat([labelled.weights, pseudo.weights]),
        probabilities,
    )


def _images_of_both(labelled: Samples, pseudo: Samples) -> torch.Tensor | StreamedImages:
    if isinstance(labelled.images, StreamedImages):
        return labelled.images.followed_by(pseudo.images)
    return torch.cat([labelled.images, pseudo.images])


def _pseudo_labelled(
    options: TrainSemiOptions, set_dir: Place, manifest: Manifest, table: Path, *, streamed: bool
) -> Samples:
    unlabeled = (open_split if streamed else load_split)(set_dir, UNLABELED, manifest)
    by_id = np.argsort(unlabeled.ids)  # the order of the pseudo-labels
    wanted = unlabeled.ids[by_id]
    if table.is_file():
        ids, labels = wanted, load_published_pseudo_labels(table, wanted)
        confidence = np.ones(len(ids), np.float32)
    else:
        ids, labels, confidence = load_pseudo_labels(table)
    # A selection labels some of the images only, each once.
    if not np.isin(ids, wanted).all() or len(np.unique(ids)) != len(ids):
        raise UserError(
            f"{table} labels other images than the unlabeled part of {set_dir}: run gen_pseudolabels for it"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < manifest.num_classes:
        raise UserError(f"{table} has labels outside 0..{manifest.num_classes - 1}: write them again")
    confident = confidence >= class_thresholds(options, manifest.num_classes)[labels]
    # The images in the order in which they lie, each with its row of the table.
    places = by_id[np.searchsorted(wanted, ids[confident])]
    rows = np.full(len(wanted), -1)
    rows[places] = np.flatnonzero(confident)
    kept = rows >= 0
    rows = rows[kept]
    images = unlabeled.images.only(kept) if isinstance(unlabeled.images, StreamedImages) else unlabeled.images[kept]
    samples = new_samples(unlabeled.ids[kept], images, labels[rows], options.unlabeled_weight)
    if options.pseudo_label_type == "hard":
        return samples
    probabilities = load_probabilities(table)[rows]
    if probabilities.shape[1] != manifest.num_classes:
        raise UserError(
            f"{table} has probabilities of {probabilities.shape[1]} classes, the set has {manifest.num_classes}: "
            f"run gen_pseudolabels for it"
        )
    return replace(samples, probabilities=torch.from_numpy(probabilities))


def class_thresholds(options: TrainSemiOptions, num_classes: int) -> np.ndarray:
    """(C,) float32 smallest confidence of a pseudo-label of each class."""
    thresholds = options.confidence_threshold
    if len(thresholds) not in (1, num_classes):
        raise UserError(
            f"--confidence_threshold has {len(thresholds)} thresholds, the set {num_classes} classes: "
            f"give one for all or one of each"
        )
    return np.broadcast_to(np.array(thresholds, np.float32), num_classes)
