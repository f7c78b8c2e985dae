"""Training on labels and pseudo-labels together (self-training).

A pseudo-label is the class that an earlier network predicted for an unlabeled image, or, soft, its probabilities of
all classes. Pseudo-labels with a confidence below the threshold of their class are left out.
"""

from dataclasses import replace

import numpy as np
import torch

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.data.loader import load_split
from longtail.data.manifest import Manifest
from longtail.data.pseudo_label_table import (
    check_table_fits,
    load_probabilities,
    load_pseudo_labels,
    load_round,
)
from longtail.data.published_pseudo_labels import load_published_pseudo_labels
from longtail.data.stream import StreamedImages, open_split
from longtail.training.distributed import Rank
from longtail.training.objective import Task, classification_objective
from longtail.training.run_directory import RunPaths
from longtail.training.samples import Samples, is_streamed, joined, load_samples, new_samples
from longtail.training.supervised import LabelMethod
from longtail.training.training_data import labelled_data


def semi_supervised_task(
    options: TrainSemiOptions, set_dir: Location, manifest: Manifest, device: torch.device, *, pseudo_labels: Location
) -> Task:
    """Learn the labelled samples and, behind them, the pseudo-labelled ones; class counts are those of both."""
    streamed = stays_on_disk(options, manifest)
    labelled = load_samples(options, set_dir, TRAIN, manifest, streamed=streamed)
    pseudo = _pseudo_labelled(options, set_dir, manifest, pseudo_labels, streamed=streamed)
    if options.unlabeled_ratio is not None and not len(pseudo):
        raise UserError("no pseudo-label is confident enough for a batch: lower --confidence_threshold")
    rule_counts = labelled.class_counts(manifest.num_classes) if options.class_counts == "labelled" else None
    data = labelled_data(
        options, joined(labelled, pseudo), labelled, set_dir, manifest, device, rule_counts=rule_counts
    )
    data = replace(
        data,
        unlabeled_ratio=options.unlabeled_ratio,
        pseudo_label_round=1 if pseudo_labels.is_file() else load_round(pseudo_labels),
    )
    return Task(data, classification_objective(options, data.rule_counts, device))


def stays_on_disk(options: TrainSemiOptions, manifest: Manifest) -> bool:
    """Whether the images of both parts are read from files; joined samples are all in memory or all on disk.

    Raises UserError if they are, together with --unlabeled_ratio, which needs random access.
    """
    streamed = is_streamed(options, manifest, (TRAIN, UNLABELED))
    if streamed and options.unlabeled_ratio is not None:
        raise UserError(
            "--unlabeled_ratio draws each batch from the whole set, which is too large for memory: raise "
            f"--max_resident_gib (it is {options.max_resident_gib:g}), or leave the ratio out"
        )
    return streamed


def _pseudo_labelled(
    options: TrainSemiOptions, set_dir: Location, manifest: Manifest, table: Location, *, streamed: bool
) -> Samples:
    check_table_fits(table, manifest, set_dir=set_dir)
    unlabeled = (open_split if streamed else load_split)(set_dir, UNLABELED, manifest)
    by_id = np.argsort(unlabeled.ids)  # the order of the pseudo-labels
    sorted_ids = unlabeled.ids[by_id]
    if table.is_file():
        ids, labels = sorted_ids, load_published_pseudo_labels(table, sorted_ids, manifest)
        confidence = np.ones(len(ids), np.float32)
    else:
        ids, labels, confidence = load_pseudo_labels(table)
    # A selection labels some of the images only, each once.
    if not np.isin(ids, sorted_ids).all() or len(np.unique(ids)) != len(ids):
        raise UserError(
            f"{table} labels other images than the unlabeled part of {set_dir}: run gen_pseudolabels for it"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < manifest.num_classes:
        raise UserError(f"{table} has labels outside 0..{manifest.num_classes - 1}: write them again")
    confident = confidence >= class_thresholds(options, manifest.num_classes)[labels]
    # The images in their order on disk, each with its row of the table.
    indices = by_id[np.searchsorted(sorted_ids, ids[confident])]
    rows = np.full(len(sorted_ids), -1)
    rows[indices] = np.flatnonzero(confident)
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
    """(C,) float32 smallest confidence of a pseudo-label, per class."""
    thresholds = options.confidence_threshold
    if len(thresholds) not in (1, num_classes):
        raise UserError(
            f"--confidence_threshold has {len(thresholds)} thresholds, the set {num_classes} classes: "
            f"give one for all or one of each"
        )
    return np.broadcast_to(np.array(thresholds, np.float32), num_classes)


class PseudoLabelMethod(LabelMethod[TrainSemiOptions]):
    """The method of train_semi --semi_method pseudo_label."""

    def task(self, options: TrainSemiOptions, paths: RunPaths, manifest: Manifest, rank: Rank) -> Task:
        assert paths.pseudo_labels is not None, "the job makes or finds them before it trains"
        return semi_supervised_task(options, paths.set_dir, manifest, rank.device, pseudo_labels=paths.pseudo_labels)
