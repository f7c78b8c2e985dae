"""The metric event: what a training says about one class of one split after one epoch.

The dataclass below is the schema. The JSON keys, Spark's DDL and the readers'
column names are all taken from it.
"""

import dataclasses
from dataclasses import dataclass

EVENT_SCHEMA_VERSION = 1

_SPARK_TYPES = {int: "BIGINT", float: "DOUBLE", str: "STRING"}


@dataclass(frozen=True, kw_only=True)
class ClassEvent:
    """Counts over the images of one class (or, for `predicted`, over all images of the split).

    schema_version: EVENT_SCHEMA_VERSION of the writer
    run: name of the run
    attempt: 1 for the first start of the run, one more for each start after a stop; the highest counts
    phase: what is trained: pretrain_rot, train, train_semi or classifier
    epoch, num_epochs: the finished epoch, counted from 1, and how many there will be
    split: train (measured on the augmented batches, while learning), val or test
    class_id, class_name: class index from 0, and its name
    shot_group: many, medium or few
    train_count: training images of the class, pseudo-labelled ones included
    support: images of the class in the split
    correct: of these, images predicted as the class
    predicted: images of the split predicted as the class
    loss_sum: sum of the unweighted loss over the class's images
    confidence_sum: sum of the largest softmax probability over the class's images
    epoch_seconds, images_per_second: time of the epoch, evaluation included, and its training throughput
    emitted_at: seconds since 1970-01-01 UTC
    """

    schema_version: int
    run: str
    attempt: int
    phase: str
    epoch: int
    num_epochs: int
    split: str
    class_id: int
    class_name: str
    shot_group: str
    train_count: int
    support: int
    correct: int
    predicted: int
    loss_sum: float
    confidence_sum: float
    epoch_seconds: float
    images_per_second: float
    emitted_at: float


def spark_ddl() -> str:
    """The schema for spark.readStream.schema(...)."""
    return ", ".join(f"{field.name} {_SPARK_TYPES[field.type]}" for field in dataclasses.fields(ClassEvent))
