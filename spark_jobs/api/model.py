"""A trained classifier from its checkpoint alone: predictions for arrays without Spark, for DataFrames with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.base.locations import Location, location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.classifier import INFERENCE_BATCH_SIZE
from longtail.data.any_image import pixels_of
from longtail.data.image_files import BAD_IMAGE
from longtail.spark_jobs.api.known_options import with_known_options

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame, SparkSession

    from longtail.models.network import Network
    from longtail.spark_jobs.frames.predictions import Classifier
    from longtail.training.checkpoints import CheckpointMetadata


@dataclass(frozen=True)
class BatchPredictions:
    """The predictions for N images.

    class_name: (N,) names of the most probable classes
    predicted: (N,) int64, their numbers
    confidence: (N,) float32, their probabilities
    margin: (N,) float32, difference between the two largest probabilities
    probabilities: (N, C) float32, by class number
    features: (N, D) float32, the input of the network's head; None unless they were asked for
    """

    class_name: list[str]
    predicted: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A classifier that load() has read.

    checkpoint: the file; version: its SHA-256
    batch_size: most images per forward pass
    class_offsets: (C,) added to the logits for other class shares; None for nothing
    arch: the network that the user gave, if it is code of their own
    network, metadata: the network in evaluation mode, and its description
    """

    checkpoint: Location
    version: str
    batch_size: int
    class_offsets: tuple[float, ...] | None
    arch: str | None
    network: "Network"
    metadata: "CheckpointMetadata"

    @property
    def class_names(self) -> list[str]:
        """(C,) names of the classes, by number."""
        return list(self.metadata.class_names)

    @property
    def class_counts(self) -> list[int]:
        """(C,) images of each class that it was trained on, pseudo-labelled ones included."""
        return list(self.metadata.class_counts)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that the network takes; others are scaled and cropped."""
        return self.metadata.image_shape

    @with_known_options
    def predict_batch(self, images: np.ndarray | Sequence[object], *, features: bool = False) -> BatchPredictions:
        """Predict images in memory; needs no Spark.

        images: (N, height, width, channels) uint8 of image_shape; or a sequence of images, each an array of uint8
            (height, width, channels) of any size, or the bytes of an image file

        Raises UserError for an image that cannot be read, and for a single image of image_shape.
        """
        import torch

        from longtail.training.class_predictions import class_predictions
        from longtail.training.inference import infer_with

        pixels = self._pixels(images)
        found = infer_with(
            self.network,
            self.metadata,
            pixels,
            path=self.checkpoint,
            batch_size=min(self.batch_size, max(len(pixels), 1)),
            with_features=features,
        )
        logits = found.logits  # (N, C)
        if self.class_offsets is not None:
            logits = logits + torch.tensor(self.class_offsets)
        predictions = class_predictions(logits)
        return BatchPredictions(
            class_name=[self.metadata.class_names[number] for number in predictions.predicted.tolist()],
            predicted=predictions.predicted.numpy(),
            confidence=predictions.confidence.numpy(),
            margin=predictions.margin.numpy(),
            probabilities=predictions.probabilities.numpy(),
            features=None if found.features is None else found.features.numpy(),
        )

    @with_known_options
    def predict(
        self,
        frame: "DataFrame",
        *,
        image: str = "image",
        on_bad_image: Literal["stop", "skip"] = "stop",
        probabilities: bool = False,
        features: bool = False,
    ) -> "DataFrame":
        """The frame with class_name, predicted, confidence, margin, top5, model_version and bad_image (docs/api.md).

        A transform: nothing is computed before the result is used, and then a partition at a time.

        image: the column of the images: bytes of files or pixels, a struct with `bytes`, or Spark's image struct
        on_bad_image: `skip` gives an image that cannot be decoded null predictions, and the reason in bad_image
        probabilities, features: add the columns of these names, lists of float32

        Raises UserError if the frame lacks the column, or has one of the names that are added, and for other arguments
        than these. While the result is computed, an image that cannot be decoded is an error of Spark's that has one.
        """
        if not hasattr(frame, "sparkSession"):  # before anything of Spark is imported, which may not be installed
            raise UserError(
                f"predict() takes a Spark DataFrame, not a {type(frame).__name__}: give spark.createDataFrame(...), or "
                f"the images themselves to predict_batch()"
            )
        from longtail.spark_jobs.frames.image_columns import image_column
        from longtail.spark_jobs.frames.named_predictions import Additions, with_named_predictions

        if on_bad_image not in (known := ("stop", "skip")):
            raise UserError(f"on_bad_image {on_bad_image!r}{did_you_mean(str(on_bad_image), known)}: give stop or skip")
        return with_named_predictions(
            frame,
            self._classifier(),
            self.metadata.class_names,
            image_column(frame, image),
            on_bad_image=on_bad_image,
            additions=Additions(probabilities=probabilities, features=features),
        )

    def class_shares(self, images: np.ndarray | Sequence[object]) -> "pd.DataFrame":
        """The class shares of images (see predict_batch), estimated from all of them together; needs no Spark.

        A row for each class: class_name, share, and the ends low and high of its 95 % interval. The model should be
        calibrated (`longtail calibrate`); a prior that it was loaded with has no influence.

        Raises UserError for an image that cannot be read, or without images.
        """
        import pandas as pd

        from longtail.training.inference import shares_of_outputs
        from longtail.training.prior_shift import estimated_with_intervals

        probabilities = replace(self, class_offsets=None).predict_batch(images).probabilities
        if not len(probabilities):
            raise UserError("class shares are estimated from images, and there are none")
        found = estimated_with_intervals(
            probabilities, shares_of_outputs(self.metadata), calibration=self.metadata.calibration
        )
        columns = {"share": found.shares, "low": found.low, "high": found.high}
        return pd.DataFrame({"class_name": self.class_names, **columns})

    def register(self, spark: "SparkSession", name: str) -> "Callable[..., Column]":
        """Make the model a function of SQL queries: `SELECT name(image).class_name FROM t`.

        The function takes a column as predict() does, and returns a struct of the columns that predict() adds; where an
        image cannot be decoded, bad_image says why. Also returns it for use with DataFrames.
        """
        if not hasattr(spark, "udf"):
            raise UserError(
                f"register() takes a Spark session, not a {type(spark).__name__}: give register(spark, name)"
            )
        from longtail.spark_jobs.frames.prediction_function import prediction_function

        function = prediction_function(spark, self._classifier(), self.metadata.class_names)
        spark.udf.register(name, function)
        return function

    def _classifier(self) -> "Classifier":
        from longtail.spark_jobs.frames.predictions import classifier_alone

        classifier, _ = classifier_alone(self.checkpoint, batch_size=self.batch_size, arch=self.arch)
        if classifier.version != self.version:
            raise UserError(f"{self.checkpoint} was written again since it was loaded: load it again")
        return replace(classifier, class_offsets=self.class_offsets)

    def _pixels(self, images: np.ndarray | Sequence[object]) -> np.ndarray:
        """(N, *image_shape) uint8."""
        shape = self.image_shape
        if not hasattr(images, "__len__"):
            raise UserError(f"images are of the type {type(images).__name__}: an array or a list of them was expected")
        if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == shape:
            return images
        if isinstance(images, np.ndarray) and images.shape == shape:
            raise UserError("one image was given: images were expected, as image[None]")
        pixels = np.empty((len(images), *shape), np.uint8)
        for number, image in enumerate(images):
            try:
                pixels[number] = pixels_of(image, shape)
            except BAD_IMAGE as error:
                raise UserError(f"image {number} cannot be read: {error}") from None
        return pixels


@with_known_options
def load(
    checkpoint: str | Location,
    *,
    batch_size: int = INFERENCE_BATCH_SIZE,
    logit_adjustment: float | None = None,
    prior: str | Path | Mapping[str, float] | None = None,
    arch: str | None = None,
) -> Model:
    """Load a classifier from its checkpoint; nothing else is read.

    batch_size: most images per forward pass
    logit_adjustment: subtract this times the log class prior of the checkpoint's training from the logits
    prior: class shares to predict for: `uniform`; `train`, those of the training; the share of each class by its name,
        such as class_shares() estimates; or a CSV file of them (class_name, share)
    arch: `package.module:factory`, needed only if the checkpoint's network is your own

    Raises UserError if the file is missing, damaged, or no classifier that longtail trained.
    """
    from longtail.training.inference import class_offsets, for_inference, prior_shares, read_classifier

    try:
        path = location(checkpoint).absolute()
    except ValueError as error:
        raise UserError(f"{checkpoint} is not a valid path of a checkpoint: {error}") from None
    network, metadata = read_classifier(path, arch)
    if prior is not None and logit_adjustment is not None:
        raise UserError("prior and logit_adjustment both correct for class shares: give one of them")
    shares = None if prior is None else prior_shares(metadata, prior)
    return Model(
        checkpoint=path,
        version=content_hash(path),
        batch_size=batch_size,
        class_offsets=class_offsets(metadata, logit_adjustment=logit_adjustment, shares=shares),
        arch=arch,
        network=for_inference(network, metadata.image_shape),
        metadata=metadata,
    )
