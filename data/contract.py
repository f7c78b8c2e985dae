"""The row contract: the columns of a prepared set, named once for writer and readers."""

import pyarrow as pa

from longtail.data.storage import Place, child

ID = "id"
IMAGE = "image"
LABEL = "label"
HIDDEN_LABEL = "hidden_label"
SPLIT = "split"

ROWS_DIRECTORY = "rows"
"""The Parquet files in a prepared set's directory; a table of its own, so that spark.read.parquet takes it."""

RAW = "raw"
ENCODED = "encoded"

SCHEMA_VERSION = 2
"""Raised when a reader of the old layout would misread the new one."""

PREPARED_SCHEMA = pa.schema(
    [
        # Unique in the set: the image's position in its source; further sources count from their FIRST_ID.
        pa.field(ID, pa.int64(), nullable=False),
        # In a RAW set: uint8, height x width x channels, row order. In an ENCODED one: a JPEG or PNG file's bytes.
        pa.field(IMAGE, pa.binary(), nullable=False),
        # Null in the unlabeled part.
        pa.field(LABEL, pa.int32()),
        # The withheld truth of the unlabeled part, null elsewhere and where nobody knows it or where it is none of the
        # classes. Only the evaluation of pseudo-labels reads it.
        pa.field(HIDDEN_LABEL, pa.int32()),
        # A partition directory (split=train/...), so a reader touches only its split.
        pa.field(SPLIT, pa.string(), nullable=False),
    ]
)

UNLABELED_FIRST_ID = 2**40
IRRELEVANT_FIRST_ID = 2**41

SOURCE_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64(), nullable=False),
        pa.field(IMAGE, pa.binary(), nullable=False),
        # NO_CLASS for an image of none of the classes, or of an unknown one.
        pa.field(LABEL, pa.int32(), nullable=False),
        # The source's own split: TRAIN or TEST, or UNLABELED for all images of a source of unlabeled ones.
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
        # Softmax probability of every class, by its number.
        pa.field(PROBABILITIES, pa.list_(pa.float32()), nullable=False),
        # The same in every row: 1 if the classifier learned from labels alone, else one more than the round of the
        # pseudo-labels that it learned from.
        pa.field(ROUND, pa.int32(), nullable=False),
    ]
)
"""Of a table of pseudo-labels, what a training reads."""

PREDICTED = "predicted"
MARGIN = "margin"
MODEL_VERSION = "model_version"

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field(PREDICTED, pa.int32(), nullable=False),
        pa.field(CONFIDENCE, pa.float32(), nullable=False),
        # Largest less second largest probability, in [0, 1].
        pa.field(MARGIN, pa.float32(), nullable=False),
        # Of all classes, by class number; they add up to 1.
        pa.field(PROBABILITIES, pa.list_(pa.float32()), nullable=False),
        # SHA-256 of the checkpoint file.
        pa.field(MODEL_VERSION, pa.string(), nullable=False),
        # As above.
        pa.field(ROUND, pa.int32(), nullable=False),
    ]
)
"""What a classifier says of an image."""


def split_directory(set_dir: Place, split: str) -> Place:
    """Where a prepared set keeps the Parquet files of one split."""
    return child(set_dir, ROWS_DIRECTORY, f"{SPLIT}={split}")
