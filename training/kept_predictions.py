"""Keeps what a training predicts for each image, for those who look at the images (data/kept_predictions.py)."""

import numpy as np

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import UNLABELED
from longtail.data.kept_predictions import (
    PER_CLASS,
    STEPS,
    TRAINED_ON,
    keep_ends,
    kept_rows,
    write_kept,
)
from longtail.data.manifest import Manifest
from longtail.data.pseudo_label_table import load_pseudo_labels
from longtail.training.metrics import Predictions
from longtail.training.run_directory import RunPaths
from longtail.training.semi.image_pseudo_labels import ImagePseudoLabels
from longtail.training.training_data import TrainingData


class PredictionRecord:
    """Rank 0's record of a run's predictions; a pre-training, which predicts no class of the set, has none."""

    def __init__(self, data: TrainingData, options: RunOptions, paths: RunPaths, manifest: Manifest) -> None:
        self._data, self._paths, self._manifest = data, paths, manifest
        self._is_kept = data.class_names == manifest.class_names and bool(data.num_labelled)
        if self._is_kept and isinstance(options, TrainSemiOptions) and paths.pseudo_labels is not None:
            self._keep_learned()

    def add(self, predictions: dict[str, Predictions], pseudo_labels: ImagePseudoLabels | None, *, epoch: int) -> None:
        """Keep the predictions of an epoch that was evaluated, and the pseudo-labels of its steps."""
        if not self._is_kept or not predictions:
            return
        for split, found in predictions.items():
            ids = self._data.held_out[split].ids.numpy()
            columns = (values.cpu().numpy() for values in (found.predicted, found.confidences, found.targets))
            write_kept(
                self._paths.run_dir, split, kept_rows(ids, *columns), self._manifest,
                set_dir=self._paths.set_dir, epoch=epoch,
            )  # fmt: skip
        if pseudo_labels is not None:
            indices, classes, confidences = pseudo_labels.confident()
            ids = self._data.train.ids[self._data.num_labelled :].numpy()[indices]
            self._keep_unlabeled(ids, classes, confidences, source=STEPS, epoch=epoch)

    def _keep_learned(self) -> None:
        """Keep the pseudo-labels of a table that the training learns from; a published file has no ids."""
        table = self._paths.pseudo_labels
        assert table is not None
        if table.is_file():
            return
        ids, labels, confidences = load_pseudo_labels(table)
        learned = np.isin(ids, self._data.train.ids[self._data.num_labelled :].numpy())
        self._keep_unlabeled(ids[learned], labels[learned], confidences[learned], source=TRAINED_ON, epoch=0)

    def _keep_unlabeled(
        self, ids: np.ndarray, classes: np.ndarray, confidences: np.ndarray, *, source: str, epoch: int
    ) -> None:
        rows = keep_ends(kept_rows(ids, classes, confidences))
        write_kept(
            self._paths.run_dir, UNLABELED, rows, self._manifest, set_dir=self._paths.set_dir, epoch=epoch,
            source=source, per_class=PER_CLASS,
        )  # fmt: skip
