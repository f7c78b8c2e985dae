"""What the labels of a table are like: class counts, and how they differ between partitions. DataFrame to DataFrame.

All of it comes from one count by partition and class, so the rows are read once; what is left is as small as the
classes times the partitions, and only sums over either reach the driver.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS
from longtail.data.contract import CONFIDENCE, HIDDEN_LABEL, LABEL, PSEUDO_LABEL, SPLIT

PARTITION, CLASS_ID, COUNT = "partition", "class_id", "count"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
QUANTILE_ACCURACY = 10_000
"""Ranks are right to 1 / this; of fewer values than this the quantiles are exact."""


def with_partition_counts(prepared: DataFrame) -> DataFrame:
    """Images per partition, split and class (the withheld one in the unlabeled part, or NO_CLASS).

    partition, split, class_id, count
    """
    nothing = F.lit(NO_CLASS).cast(prepared.schema[LABEL].dataType)  # the labels of any table may be names
    class_id = F.coalesce(LABEL, HIDDEN_LABEL, nothing)
    return prepared.groupBy(F.spark_partition_id().alias(PARTITION), SPLIT, class_id.alias(CLASS_ID)).count()


def with_class_counts(partition_counts: DataFrame) -> DataFrame:
    """split, class_id, count over all partitions"""
    return partition_counts.groupBy(SPLIT, CLASS_ID).agg(F.sum(COUNT).alias(COUNT))


def with_split_counts(prepared: DataFrame) -> DataFrame:
    """Images per split and class (the withheld one in the unlabeled part, or NO_CLASS): split, class_id, count."""
    return prepared.groupBy(SPLIT, F.coalesce(LABEL, HIDDEN_LABEL, F.lit(NO_CLASS)).alias("class_id")).count()


def with_label_skew(partition_counts: DataFrame) -> DataFrame:
    """How far the classes of each partition are from those of its split: split, partition, num_images, label_skew.

    label_skew is the total variation distance of the two distributions, half the sum over classes of |p - q|: 0 where
    a partition is like the whole, towards 1 where it has classes that hardly occur elsewhere.
    """
    of_class = with_class_counts(partition_counts).withColumnRenamed(COUNT, "in_split")
    of_split = partition_counts.groupBy(SPLIT).agg(F.sum(COUNT).alias("split_images"))
    of_partition = partition_counts.groupBy(SPLIT, PARTITION).agg(F.sum(COUNT).alias("num_images"))
    p, q = F.col(COUNT) / F.col("num_images"), F.col("in_split") / F.col("split_images")
    return (
        partition_counts.join(of_class, [SPLIT, CLASS_ID])
        .join(F.broadcast(of_partition), [SPLIT, PARTITION])
        .join(F.broadcast(of_split), SPLIT)
        .groupBy(SPLIT, PARTITION, "num_images")
        # A class that the partition lacks adds its q: all of them together, 1 less the sum of the others.
        .agg(((F.sum(F.abs(p - q)) + 1 - F.sum(q)) / 2).alias("label_skew"))
        .orderBy(SPLIT, PARTITION)
    )


@dataclass(frozen=True)
class LabelCounts:
    """class_counts: rows (split, class_id, count); skew: rows (split, partition, num_images, label_skew)"""

    class_counts: Sequence[tuple[str, int, int]]
    skew: Sequence[tuple[str, int, int, float]]


def count_labels(prepared: DataFrame) -> LabelCounts:
    """The counts and the skew, of one pass over the rows."""
    with _kept(with_partition_counts(prepared)) as partition_counts:
        return LabelCounts(
            [tuple(row) for row in with_class_counts(partition_counts).collect()],
            [tuple(row) for row in with_label_skew(partition_counts).collect()],
        )


def with_confidence_quantiles(pseudo_labels: DataFrame, *, num_classes: int) -> DataFrame:
    """Pseudo-labels of each class and the QUANTILES of their confidences: class_id, predicted, confidence_quantiles.

    A class that nothing was taken for keeps its row: none, and null.
    """
    classes = pseudo_labels.sparkSession.range(num_classes).select(F.col("id").cast("int").alias(CLASS_ID))
    found = pseudo_labels.groupBy(F.col(PSEUDO_LABEL).alias(CLASS_ID)).agg(
        F.count("*").alias("predicted"),
        F.percentile_approx(CONFIDENCE, list(QUANTILES), QUANTILE_ACCURACY).alias("confidence_quantiles"),
    )
    return classes.join(found, CLASS_ID, "left").na.fill(0, ["predicted"]).orderBy(CLASS_ID)


@contextmanager
def _kept(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, computed once however often it is asked for."""
    frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield frame
    finally:
        frame.unpersist()
