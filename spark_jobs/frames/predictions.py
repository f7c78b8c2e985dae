"""Inference by Spark tasks: Arrow batches of images in, predictions of a classifier out.

Each Python worker loads the checkpoint once, for all its partitions and jobs. The prediction for an image depends
neither on its partition nor on other images (training/inference.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.utils import is_remote

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash
from longtail.conf.base.locations import Location
from longtail.data.class_names import class_order
from longtail.data.contract import (
    CONFIDENCE,
    FEATURES,
    ID,
    IMAGE,
    LABEL,
    MARGIN,
    MODEL_VERSION,
    PREDICTED,
    PREDICTION_SCHEMA,
    PROBABILITIES,
    PSEUDO_LABEL,
    RAW,
    ROUND,
)
from longtail.data.loader import decode_images
from longtail.data.manifest import Manifest
from longtail.spark_jobs.cluster.connect import default_parallelism
from longtail.spark_jobs.cluster.devices import gpu_profile, granted_device
from longtail.spark_jobs.cluster.settings import is_local
from longtail.spark_jobs.cluster.torch_state import torch_as_found
from longtail.spark_jobs.cluster.visibility import check_seen

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from longtail.training.checkpoint_metadata import CheckpointMetadata
    from longtail.training.foreign_checkpoints import SetDescription
    from longtail.training.inference import Inference

MOST_LOGITS = 2**22
"""Of the images that a task predicts together: 16 MiB, beside which their probabilities and those in the JVM take
as much again. A batch of Arrow has 10,000 images, at 8,142 classes 311 MiB."""

ENERGY = "energy"
LOSS = "loss"
IN_TOP5 = "in_top5"

SCORE_FIELDS = [
    # Minus the log-sum-exp of the logits: high for images unlike those that the classifier was trained on (Liu et al.
    # 2020, energy-based out-of-distribution detection).
    pa.field(ENERGY, pa.float32()),
    # The loss that the checkpoint was trained with; null for an image without a label, as is the next column.
    pa.field(LOSS, pa.float32()),
    # Whether the label is among the five most probable classes.
    pa.field(IN_TOP5, pa.bool_()),
]
"""Columns that score a prediction; all but the energy need a label."""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A checkpoint as it is sent to the tasks: its path and its hash, not its weights.

    image_shape, encoding: of the input images
    class_order: class class_order[i] of the checkpoint is class i of the set; None: the same order
    batch_size: images per forward pass
    threads: torch's threads per task; None: the task's share of the cores
    class_offsets: (C,) added to the logits, in class_order; None for nothing
    arch, loss_type: the network and the loss that the user gives; needed if they are the user's own code
    of_set: what a checkpoint of other code is described by
    """

    checkpoint: Location
    version: str
    image_shape: tuple[int, int, int]
    encoding: str
    batch_size: int
    class_order: tuple[int, ...] | None = None
    threads: int | None = None
    class_offsets: tuple[float, ...] | None = None
    arch: str | None = None
    loss_type: str | None = None
    of_set: "SetDescription | None" = None


def classifier_of(
    checkpoint: Location,
    manifest: Manifest,
    *,
    set_dir: Location,
    batch_size: int,
    threads: int | None = None,
    logit_adjustment: float | None = None,
    arch: str | None = None,
    loss_type: str | None = None,
) -> Classifier:
    """The classifier in a checkpoint, for the images and the classes of a prepared set.

    Prints what is assumed of a checkpoint of other code.

    Raises UserError if it cannot be read, or if it is for other classes.
    """
    # With torch, which takes seconds to import.
    from longtail.training.foreign_checkpoints import assumption, set_description
    from longtail.training.inference import class_offsets, load_classifier_checkpoint

    path, of_set = checkpoint.absolute(), set_description(manifest)
    version = checkpoint_version(path)
    loaded = load_classifier_checkpoint(path, of_set, arch)
    metadata = loaded.metadata
    assert metadata is not None, "load_classifier_checkpoint() gives it to a checkpoint of other code"
    if loaded.is_foreign:
        print(assumption(of_set, path=path))
    order = class_order(metadata.class_names, manifest.class_names, file=path, of=set_dir)
    return Classifier(
        checkpoint=path,
        version=version,
        image_shape=manifest.image_shape,
        encoding=manifest.encoding,
        batch_size=batch_size,
        class_order=None if order is None else tuple(order),
        threads=threads,
        class_offsets=class_offsets(metadata.in_order(order), logit_adjustment=logit_adjustment),
        arch=arch,
        loss_type=loss_type,
        of_set=of_set,
    )


def classifier_alone(
    checkpoint: Location,
    *,
    batch_size: int,
    threads: int | None = None,
    logit_adjustment: float | None = None,
    arch: str | None = None,
    loss_type: str | None = None,
) -> "tuple[Classifier, CheckpointMetadata]":
    """The classifier in a checkpoint, for whatever images, and its description; nothing else is read.

    Raises UserError if it cannot be read, or if it is of other code, which describes no classifier.
    """
    from longtail.training.inference import class_offsets, load_classifier

    path = checkpoint.absolute()
    version = checkpoint_version(path)
    # Loaded whole, so that what does not fit is refused here and not in a task.
    _, metadata = load_classifier(path, version, arch)
    classifier = Classifier(
        checkpoint=path,
        version=version,
        image_shape=metadata.image_shape,
        encoding=RAW,
        batch_size=batch_size,
        threads=threads,
        class_offsets=class_offsets(metadata, logit_adjustment=logit_adjustment),
        arch=arch,
        loss_type=loss_type,
    )
    return classifier, metadata


def checkpoint_version(checkpoint: Location) -> str:
    """The SHA-256 of a checkpoint's content. Raises UserError if it cannot be read."""
    try:
        return content_hash(checkpoint)
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {checkpoint}: {error.strerror or error}") from None


def with_predictions(
    images: DataFrame,
    classifier: Classifier,
    *,
    with_probabilities: bool = True,
    with_scores: bool = False,
    with_features: bool = False,
) -> DataFrame:
    """The columns of `images` without IMAGE, then PREDICTION_SCHEMA, SCORE_FIELDS and FEATURES (a list of float32).

    images: has ID and IMAGE, and LABEL if with_scores is set
    with_probabilities: with the column PROBABILITIES, which at thousands of classes is larger than the image

    Raises UserError if hosts of a cluster do not see the checkpoint.
    """
    spark = images.sparkSession
    check_seen(spark, classifier.checkpoint, option="--resume")
    kept = [name for name in images.columns if name != IMAGE]
    extra = [*(SCORE_FIELDS if with_scores else []), *([pa.field(FEATURES, pa.list_(pa.float32()))] * with_features)]
    own = [field for field in PREDICTION_SCHEMA if with_probabilities or field.name != PROBABILITIES]
    predicted = pa.schema([*own, *extra])
    predict = partial(
        _predict_partition,
        classifier=classifier,
        columns=[*kept, *predicted.names],
        threads=threads_per_task(spark, classifier.threads),
    )
    schema = images.select(*kept).schema
    for field in from_arrow_schema(predicted):
        schema = schema.add(field)
    # A small set is one file, hence one partition: distribute it over all slots.
    return images.repartition(default_parallelism(spark), ID).mapInArrow(
        predict, schema, profile=inference_profile(spark)
    )


def threads_per_task(spark: SparkSession, threads: int | None) -> int | None:
    """torch's threads in a task, of which the user may give the number; None for as many as Spark gives it cores."""
    if threads is None and not is_remote() and is_local(spark.sparkContext.master):
        # Local tasks share the machine's cores; elsewhere a task uses the cores that Spark gave it.
        return max(1, (os.cpu_count() or 1) // spark.sparkContext.defaultParallelism)
    return threads


def with_pseudo_labels(images: DataFrame, classifier: Classifier, *, with_probabilities: bool = True) -> DataFrame:
    """id, image -> id, pseudo_label, and the other columns of PREDICTION_SCHEMA."""
    predicted = with_predictions(images, classifier, with_probabilities=with_probabilities)
    return predicted.withColumnRenamed(PREDICTED, PSEUDO_LABEL)


def _predict_partition(
    batches: Iterator[pa.RecordBatch],
    *,
    classifier: Classifier,
    columns: list[str],
    threads: int | None,
) -> Iterator[pa.RecordBatch]:
    """columns: those of the batches that stay, and of PREDICTION_SCHEMA, SCORE_FIELDS and FEATURES"""
    with torch_of_task(threads) as device:
        for whole in batches:
            for batch in predicted_together(whole, num_classes=len(metadata_of(classifier, device).class_names)):
                yield _predicted(batch, classifier, columns, device)


def predicted_together(batch: pa.RecordBatch, *, num_classes: int) -> Iterator[pa.RecordBatch]:
    """The rows of a batch in parts of at most MOST_LOGITS logits, or of one row."""
    size = max(1, MOST_LOGITS // num_classes)
    for first in range(0, len(batch), size):
        yield batch.slice(first, size)


def _predicted(
    batch: pa.RecordBatch, classifier: Classifier, columns: list[str], device: "torch.device"
) -> pa.RecordBatch:
    pixels = decode_images(batch.column(IMAGE), classifier.image_shape, classifier.encoding)
    found, metadata = outputs_of(classifier, pixels, device, with_features=FEATURES in columns)
    known = dict(zip(batch.schema.names, batch.columns, strict=True))
    known |= _predictions(found.logits, version=classifier.version, this_round=metadata.pseudo_label_round + 1)
    if LOSS in columns:
        known |= scores_of(found.logits, batch.column(LABEL), metadata, classifier)
    if found.features is not None:
        known[FEATURES] = lists_of(found.features.numpy())
    return pa.RecordBatch.from_pydict({name: known[name] for name in columns})


@contextmanager
def torch_of_task(threads: int | None) -> "Iterator[torch.device]":
    """In a task: the device that Spark grants it, and in the block as many threads as threads_per_task() says.

    Raises UserError if torch cannot use the GPU that Spark grants.
    """
    import torch

    context = TaskContext.get()
    assert context is not None, "called in a task"
    with torch_as_found(threads=threads or context.cpus()):
        yield granted_device(context) or torch.device("cpu")


def inference_profile(spark: SparkSession) -> ResourceProfile | None:
    """The resources of an inference task beyond those of an ordinary one: a share of a GPU if the executors have any.

    None over Spark Connect, where a task has a GPU if the server's settings give one to every task.
    """
    return None if is_remote() else gpu_profile(spark.sparkContext.getConf(), shared=True)


def outputs_of(
    classifier: Classifier, images: np.ndarray, device: "torch.device", *, with_features: bool
) -> "tuple[Inference, CheckpointMetadata]":
    """In a task: what the classifier gives for images (N, height, width, channels) uint8, and its description.

    device: that of torch_of_task()

    The logits are adjusted, if the classifier says so. Raises UserError as infer() does.
    """
    import torch

    from longtail.training.inference import infer

    found = infer(
        classifier.checkpoint,
        classifier.version,
        images,
        batch_size=classifier.batch_size,
        with_features=with_features,
        arch=classifier.arch,
        order=classifier.class_order,
        of_set=classifier.of_set,
        device=device,
    )
    metadata = metadata_of(classifier, device)
    if classifier.class_offsets is not None:
        found = replace(found, logits=found.logits + torch.tensor(classifier.class_offsets))
    return found, metadata


def metadata_of(classifier: Classifier, device: "torch.device") -> "CheckpointMetadata":
    """In a task: the classifier's description. It is loaded once."""
    from longtail.training.inference import load_classifier

    _, metadata = load_classifier(
        classifier.checkpoint, classifier.version, classifier.arch, classifier.class_order, classifier.of_set, device
    )
    return metadata


def _predictions(logits: "Tensor", *, version: str, this_round: int) -> dict[str, pa.Array]:
    """The columns of PREDICTION_SCHEMA for logits (N, C)."""
    from longtail.training.class_predictions import class_predictions

    found = class_predictions(logits)
    return {
        PREDICTED: pa.array(found.predicted.int().numpy()),
        CONFIDENCE: pa.array(found.confidence.numpy()),
        MARGIN: pa.array(found.margin.numpy()),
        PROBABILITIES: lists_of(found.probabilities.numpy()),
        MODEL_VERSION: pa.array([version] * len(logits)),
        ROUND: pa.array(np.full(len(logits), this_round, np.int32)),
    }


def scores_of(
    logits: "Tensor", labels: pa.Array, metadata: "CheckpointMetadata", classifier: Classifier
) -> dict[str, pa.Array]:
    """The columns of SCORE_FIELDS for logits (N, C) and labels (N,), null where unknown."""
    import torch

    from longtail.training.inference import losses

    unknown = labels.is_null().to_numpy(zero_copy_only=False)  # (N,)
    targets = torch.from_numpy(labels.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))  # (N,)
    top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices  # (N, 5)
    found = losses(classifier.checkpoint, metadata, logits, targets, loss_type=classifier.loss_type)  # (N,)
    return {
        ENERGY: pa.array((-logits.logsumexp(dim=1)).numpy()),
        LOSS: pa.array(found.numpy(), mask=unknown),
        IN_TOP5: pa.array((top5 == targets[:, None]).any(dim=1).numpy(), mask=unknown),
    }


def lists_of(rows: np.ndarray) -> pa.Array:
    """(N, D) float32 as N lists, without copying the values."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, rows.reshape(-1))
