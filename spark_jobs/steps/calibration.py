"""Calibrates a classifier on held-out images, and writes a checkpoint with the same weights and the calibration."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.calibrate import CalibratedOutput, CalibrateImagesOptions, CalibrateOptions
from longtail.conf.vocabulary import VAL
from longtail.data.contract import ID, IMAGE, LABEL, SPLIT
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.frames.named_predictions import TRUE_CLASS, Additions
from longtail.spark_jobs.frames.predictions import classifier_alone, classifier_of, with_predictions
from longtail.spark_jobs.frames.reading import read_prepared
from longtail.spark_jobs.steps.class_shares import collected_probabilities, sampled
from longtail.spark_jobs.steps.new_images import new_images

if TYPE_CHECKING:
    from longtail.training.calibration import Calibration
    from longtail.training.checkpoints import Checkpoint
    from longtail.training.foreign_checkpoints import SetDescription

MOST_PROBABILITIES = 2**25
"""Of the held-out images: the fit keeps several copies in memory, in double precision (256 MiB each)."""


@dataclass(frozen=True)
class Calibrated:
    """A calibrated checkpoint.

    path: the file
    calibration: what was fitted
    class_names: (C,)
    """

    path: Location
    calibration: "Calibration"
    class_names: list[str]


def check_calibrated_output(options: CalibratedOutput) -> None:
    """Raise UserError if the file cannot be written, or if something else than a calibrated checkpoint is there."""
    check_can_be_written(options.calibrated.parent, option="--output")
    if options.calibrated.exists() and not _is_calibrated(options.calibrated):
        raise UserError(f"--output {options.calibrated} exists and is no calibrated checkpoint: name another file")


def calibrate_checkpoint(spark: SparkSession, options: CalibrateOptions, *, set_dir: Location) -> Calibrated:
    """Calibrate by the validation images of a prepared set. Raises UserError for invalid input."""
    from longtail.training.foreign_checkpoints import set_description  # with torch, which takes seconds to import

    check_calibrated_output(options)
    manifest = read_manifest(set_dir)
    checkpoint = _uncalibrated(options.resume, options.arch, set_description(manifest))
    if not sum(manifest.counts[VAL]):
        raise UserError(
            f"{set_dir} has no validation images: prepare and train with --val_fraction, or name labelled images that "
            f"the network has not learned from with --path"
        )
    classifier = classifier_of(
        options.resume,
        manifest,
        set_dir=set_dir,
        batch_size=options.batch_size,
        threads=options.threads,
        arch=options.arch,
    )
    # In the order of the checkpoint's classes, as its description is.
    order = classifier.class_order or tuple(range(len(manifest.class_names)))
    images = read_prepared(spark, set_dir).where(F.col(SPLIT) == VAL).select(ID, LABEL, IMAGE)
    with described(spark, f"calibrate {classifier.checkpoint}"):
        chosen = sampled(images, num_classes=len(order), most_probabilities=MOST_PROBABILITIES)
        probabilities, labels = _labelled(with_predictions(chosen, classifier), LABEL, beside=options.calibrated.parent)
    own = np.empty_like(probabilities)
    own[:, order] = probabilities
    return _written(checkpoint, own, np.array(order)[labels], options)


def calibrate_by_images(spark: SparkSession, options: CalibrateImagesOptions) -> Calibrated:
    """Calibrate by labelled images that belong to no prepared set. Raises UserError for invalid input."""
    check_calibrated_output(options)
    checkpoint = _uncalibrated(options.resume, options.arch)
    classifier, metadata = classifier_alone(
        options.resume, batch_size=options.batch_size, threads=options.threads, arch=options.arch
    )
    beside = options.calibrated.parent
    with (
        described(spark, f"calibrate {classifier.checkpoint} by {options.path}"),
        new_images(spark, options.path, options, beside=beside, label_column=options.label_column) as found,
    ):
        chosen = found.sample(
            num_classes=len(metadata.class_names), kept=[options.label_column], most_probabilities=MOST_PROBABILITIES
        )
        additions = Additions(probabilities=True, label_column=options.label_column)
        predicted = chosen.predicted(classifier, metadata.class_names, additions)
        probabilities, labels = _labelled(predicted, TRUE_CLASS, beside=beside)
    return _written(checkpoint, probabilities, labels, options)


def _labelled(predicted: DataFrame, label_column: str, *, beside: Location) -> tuple[np.ndarray, np.ndarray]:
    probabilities, labels = collected_probabilities(predicted, [label_column], beside=beside)
    return probabilities, labels.astype(np.int64)


def _uncalibrated(path: Location, arch: str | None, of_set: "SetDescription | None" = None) -> "Checkpoint":
    from longtail.training.inference import load_classifier_checkpoint

    checkpoint = load_classifier_checkpoint(path, of_set, arch)
    assert checkpoint.metadata is not None, "load_classifier_checkpoint() refuses a checkpoint without it"
    if checkpoint.metadata.calibration is not None:
        raise UserError(f"{path} is calibrated already: give the checkpoint that it was made from")
    return checkpoint


def _is_calibrated(path: Location) -> bool:
    from longtail.training.checkpoints import load_checkpoint

    try:
        metadata = load_checkpoint(path).metadata
    except UserError:
        return False
    return metadata is not None and metadata.calibration is not None


def _written(
    checkpoint: "Checkpoint", probabilities: np.ndarray, labels: np.ndarray, options: CalibratedOutput
) -> Calibrated:
    from longtail.training.calibration import fit_calibration
    from longtail.training.checkpoints import save_checkpoint

    assert checkpoint.metadata is not None, "_uncalibrated() refuses a checkpoint without it"
    try:
        calibration = fit_calibration(probabilities, labels)
    except ValueError as error:
        raise UserError(f"{error}: prepare with a larger --val_fraction, or name more images with --path") from None
    metadata = replace(checkpoint.metadata, calibration=calibration)
    # Without what only resuming needs: a training goes on from the checkpoint that it wrote.
    save_checkpoint(options.calibrated, replace(checkpoint, metadata=metadata, optimizer=None, companion={}))
    return Calibrated(options.calibrated, calibration, metadata.class_names)
