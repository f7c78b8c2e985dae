"""Class counts of a table, and how they differ between its partitions. DataFrame to DataFrame.

Both follow from one count per partition and class, so that the rows are read once. That count has at most one row per
class and partition, and only sums over either reach the driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS
from longtail.data.contract import CONFIDENCE, HIDDEN_LABEL, LABEL, PSEUDO_LABEL, SPLIT
from longtail.spark_jobs.frames.reading import persisted

PARTITION, CLASS_ID, COUNT = "partition", "class_id", "count"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
QUANTILE_ACCURACY = 10_000
"""The error of a quantile's rank is at most 1 / this; with fewer values than this the quantiles are exact."""


def with_partition_counts(prepared: DataFrame) -> DataFrame:
    """Images per partition, split and class: partition, split, class_id, count.

    class_id: in the unlabeled part the withheld label, or NO_CLASS
    """
    no_class = F.lit(NO_CLASS).cast(prepared.schema[LABEL].dataType)  # labels may be names
    class_id = F.coalesce(LABEL, HIDDEN_LABEL, no_class)
    return prepared.groupBy(F.spark_partition_id().alias(PARTITION), SPLIT, class_id.alias(CLASS_ID)).count()


def with_class_counts(partition_counts: DataFrame) -> DataFrame:
    """Sum over partitions: split, class_id, count."""
    return partition_counts.groupBy(SPLIT, CLASS_ID).agg(F.sum(COUNT).alias(COUNT))


def with_label_skew(partition_counts: DataFrame) -> DataFrame:
    """The label skew of each partition: split, partition, num_images, label_skew.

    label_skew is the total variation distance between the class distributions of the partition and of its split, half
    the sum over classes of |p - q|: 0 if they are equal, near 1 if the partition has classes that are rare elsewhere.
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
        # Each class that the partition lacks adds its q; together, that is 1 minus the sum of the other q.
        .agg(((F.sum(F.abs(p - q)) + 1 - F.sum(q)) / 2).alias("label_skew"))
        .orderBy(SPLIT, PARTITION)
    )


@dataclass(frozen=True)
class LabelCounts:
    """Rows of with_class_counts and of with_label_skew.

    class_counts: (split, class_id, count)
    skew: (split, partition, num_images, label_skew)
    """

    class_counts: Sequence[tuple[str, int, int]]
    skew: Sequence[tuple[str, int, int, float]]


def count_labels(prepared: DataFrame) -> LabelCounts:
    """Collect counts and skew in one pass over the rows."""
    with persisted(with_partition_counts(prepared)) as partition_counts:
        return LabelCounts(
            [tuple(row) for row in with_class_counts(partition_counts).collect()],
            [tuple(row) for row in with_label_skew(partition_counts).collect()],
        )


def with_confidence_quantiles(pseudo_labels: DataFrame, *, num_classes: int) -> DataFrame:
    """Pseudo-labels per class and the QUANTILES of their confidences: class_id, predicted, confidence_quantiles.

    A class without pseudo-labels has a row with 0 and null.
    """
    classes = pseudo_labels.sparkSession.range(num_classes).select(F.col("id").cast("int").alias(CLASS_ID))
    found = pseudo_labels.groupBy(F.col(PSEUDO_LABEL).alias(CLASS_ID)).agg(
        F.count("*").alias("predicted"),
        F.percentile_approx(CONFIDENCE, list(QUANTILES), QUANTILE_ACCURACY).alias("confidence_quantiles"),
    )
    return classes.join(found, CLASS_ID, "left").na.fill(0, ["predicted"]).orderBy(CLASS_ID)
