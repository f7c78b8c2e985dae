"""The row contract: columns of prepared sets, sources, pseudo-labels and predictions, for writers and readers.

The version of a prepared set's rows is that of its manifest (FORMAT_VERSION in data/manifest.py).
"""

import json

import pyarrow as pa

from longtail.conf.base.locations import Location

ID = "id"
IMAGE = "image"
LABEL = "label"
HIDDEN_LABEL = "hidden_label"
SPLIT = "split"

ROWS_DIRECTORY = "rows"
"""Directory of the Parquet files in a prepared set; a table of its own, so that spark.read.parquet can read it."""

RAW = "raw"
ENCODED = "encoded"

PREPARED_SCHEMA = pa.schema(
    [
        # Unique in the set: the image's index in its source; ids of further sources begin at their FIRST_ID.
        pa.field(ID, pa.int64(), nullable=False),
        # RAW: uint8, height x width x channels in row-major order. ENCODED: the bytes of an image file.
        pa.field(IMAGE, pa.binary(), nullable=False),
        # Null in the unlabeled part.
        pa.field(LABEL, pa.int32()),
        # The withheld label of an unlabeled image; null in the other splits, and if the label is unknown or none of the
        # classes. Only the evaluation of pseudo-labels reads it.
        pa.field(HIDDEN_LABEL, pa.int32()),
        # A partition directory (split=train/...), so that readers open the files of their split alone.
        pa.field(SPLIT, pa.string(), nullable=False),
    ]
)

UNLABELED_FIRST_ID = 2**40
IRRELEVANT_FIRST_ID = 2**41

SKIPPED = "skipped"
"""As a split: the image was left out (--on_bad_image skip), and IMAGE has its name and the reason (skipped_image)."""

SOURCE_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64(), nullable=False),
        pa.field(IMAGE, pa.binary(), nullable=False),
        # NO_CLASS if the image belongs to none of the classes, or its class is unknown.
        pa.field(LABEL, pa.int32(), nullable=False),
        # The split in the source: TRAIN, TEST, or VAL where the source has validation images of its own; UNLABELED for
        # every image of a source of unlabeled images; SKIPPED for an image that was left out.
        pa.field(SPLIT, pa.string(), nullable=False),
    ]
)

PSEUDO_LABEL = "pseudo_label"
CONFIDENCE = "confidence"
PROBABILITIES = "probabilities"
ROUND = "round"

PSEUDO_LABEL_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64(), nullable=False),
        pa.field(PSEUDO_LABEL, pa.int32(), nullable=False),
        # Largest softmax probability, in [1 / num_classes, 1].
        pa.field(CONFIDENCE, pa.float32(), nullable=False),
        # Softmax probabilities, by class index; only in a table that was written with --probabilities.
        pa.field(PROBABILITIES, pa.list_(pa.float32()), nullable=False),
        # Round of self-training, the same in every row: 1 if the classifier was trained on labels alone, else one more
        # than the round of the pseudo-labels that it was trained on.
        pa.field(ROUND, pa.int32(), nullable=False),
    ]
)
"""Columns of a table of pseudo-labels that a training reads."""

PREDICTED = "predicted"
MARGIN = "margin"
MODEL_VERSION = "model_version"

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field(PREDICTED, pa.int32(), nullable=False),
        pa.field(CONFIDENCE, pa.float32(), nullable=False),
        # Difference between the largest and the second largest probability, in [0, 1].
        pa.field(MARGIN, pa.float32(), nullable=False),
        # By class index; they sum to 1.
        pa.field(PROBABILITIES, pa.list_(pa.float32()), nullable=False),
        # SHA-256 of the checkpoint file.
        pa.field(MODEL_VERSION, pa.string(), nullable=False),
        # As in PSEUDO_LABEL_SCHEMA.
        pa.field(ROUND, pa.int32(), nullable=False),
    ]
)
"""Columns of a classifier's predictions, one row per image."""

FEATURES = "features"

FEATURE_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64(), nullable=False),
        # What a network computes of the image before its head.
        pa.field(FEATURES, pa.list_(pa.float32()), nullable=False),
    ]
)
"""Columns of the features that are kept beside a prepared set (training/kept_features.py)."""

FILE = "file"
"""Name of an image file, relative to the directory that was predicted."""
ARRIVED_AT = "arrived_at"
"""When an image of a stream came: the time of its file."""
CLASS_NAME = "class_name"
TOP5 = "top5"
BAD_IMAGE = "bad_image"

NAMED_PREDICTION_SCHEMA = pa.schema(
    [
        # The predicted class; null in a row with a bad image, as the next four are.
        pa.field(CLASS_NAME, pa.string()),
        # Its number: the index in the checkpoint's list of classes.
        pa.field(PREDICTED, pa.int32()),
        # Largest softmax probability.
        pa.field(CONFIDENCE, pa.float32()),
        # As in PREDICTION_SCHEMA.
        pa.field(MARGIN, pa.float32()),
        # The five most probable classes (all, if there are fewer), the most probable first.
        pa.field(TOP5, pa.list_(pa.struct([pa.field(CLASS_NAME, pa.string()), pa.field(CONFIDENCE, pa.float32())]))),
        # SHA-256 of the checkpoint file.
        pa.field(MODEL_VERSION, pa.string()),
        # Why the image could not be read; null if it was.
        pa.field(BAD_IMAGE, pa.string()),
    ]
)
"""Columns that `predict` adds to the user's own, one row per image."""


def skipped_image(name: str, reason: str) -> bytes:
    """The content of IMAGE in a row of the split SKIPPED; read_skipped_image is the inverse."""
    return json.dumps([name, reason]).encode()


def read_skipped_image(content: bytes) -> tuple[str, str]:
    """Name of an image that was left out, and the reason."""
    name, reason = json.loads(content)
    return name, reason


def split_directory(set_dir: Location, split: str) -> Location:
    """The directory of the Parquet files of one split of a prepared set."""
    return set_dir / ROWS_DIRECTORY / f"{SPLIT}={split}"
