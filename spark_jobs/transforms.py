"""Transforms of image tables, DataFrame to DataFrame: no session, no write, no action."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from data.contract import (
    HIDDEN_LABEL,
    ID,
    IMAGE,
    LABEL,
    PREPARED_SCHEMA,
    PSEUDO_LABEL,
    ROWS_DIRECTORY,
    SOURCE_SCHEMA,
    SPLIT,
    TEST,
    TRAIN,
    UNLABELED,
    VAL,
)
from data.sources.base import Shard
from data.sources.registry import SOURCES

_RANK = "_rank"


def source_images(spark: SparkSession, dataset: str, shards: Sequence[Shard]) -> DataFrame:
    """The source's images (SOURCE_SCHEMA), each shard read and verified by a task of its own."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch.column(0).to_pylist():
                yield SOURCES[dataset].read(shards[index])

    numbers = spark.range(0, len(shards), 1, numPartitions=len(shards))
    return numbers.mapInArrow(read, f"{ID} long, {IMAGE} binary, {LABEL} int, {SPLIT} string").select(
        *SOURCE_SCHEMA.names
    )


def read_prepared(spark: SparkSession, set_dir: Path) -> DataFrame:
    """The rows of a prepared set (PREPARED_SCHEMA)."""
    return spark.read.parquet(str(set_dir / ROWS_DIRECTORY))


def with_class_counts(images: DataFrame) -> DataFrame:
    """Images per class of the source's training split: label, count."""
    return images.where(F.col(SPLIT) == TRAIN).groupBy(LABEL).count()


@dataclass(frozen=True, kw_only=True)
class LongTail:
    """Images per class of the parts that are cut from the training split, each (num_classes,)."""

    val: Sequence[int]
    train: Sequence[int]
    unlabeled: Sequence[int]


def keep_long_tail(images: DataFrame, counts: LongTail, *, seed: int) -> DataFrame:
    """Cut the training split into validation, labelled and unlabeled parts of exactly the given sizes; keep the test.

    Within a class, images are ranked by a hash of (id, seed): the choice does not depend on partitions or file order,
    and the parts cannot overlap. The unlabeled part's label moves to HIDDEN_LABEL.
    """
    spark = images.sparkSession
    bounds = spark.createDataFrame(
        [
            (label, val, val + train, val + train + unlabeled)
            for label, (val, train, unlabeled) in enumerate(
                zip(counts.val, counts.train, counts.unlabeled, strict=True)
            )
        ],
        f"{LABEL} int, val_end long, train_end long, unlabeled_end long",
    )
    by_hash = Window.partitionBy(LABEL).orderBy(F.xxhash64(F.col(ID), F.lit(seed)), ID)
    part = (
        F.when(F.col(_RANK) <= F.col("val_end"), VAL)
        .when(F.col(_RANK) <= F.col("train_end"), TRAIN)
        .when(F.col(_RANK) <= F.col("unlabeled_end"), UNLABELED)
    )
    cut = (
        images.where(F.col(SPLIT) == TRAIN)
        .withColumn(_RANK, F.row_number().over(by_hash))
        .join(F.broadcast(bounds), LABEL)
        .withColumn(SPLIT, part)
        .where(F.col(SPLIT).isNotNull())
        .select(*SOURCE_SCHEMA.names)
    )
    hidden = F.col(SPLIT) == UNLABELED
    return (
        cut.unionByName(images.where(F.col(SPLIT) == TEST))
        .withColumn(HIDDEN_LABEL, F.when(hidden, F.col(LABEL)))
        .withColumn(LABEL, F.when(~hidden, F.col(LABEL)))
        .select(*PREPARED_SCHEMA.names)
    )


def with_split_counts(prepared: DataFrame) -> DataFrame:
    """Images per split and class (the withheld one in the unlabeled part): split, class_id, count."""
    return prepared.groupBy(SPLIT, F.coalesce(LABEL, HIDDEN_LABEL).alias("class_id")).count()


def with_split_checksums(prepared: DataFrame) -> DataFrame:
    """split, checksum: exclusive or of the rows' hashes, so neither order nor files matter."""
    # Spark's hash passes over nulls: a label would count the same in either column.
    labels = [F.coalesce(name, F.lit(-1)) for name in (LABEL, HIDDEN_LABEL)]
    row_hash = F.xxhash64(ID, IMAGE, *labels)
    return prepared.groupBy(SPLIT).agg(F.hex(F.bit_xor(row_hash)).alias("checksum"))


def with_label_quality(pseudo_labels: DataFrame, prepared: DataFrame, *, num_classes: int) -> DataFrame:
    """How right pseudo-labels are, by class: class_id, predicted, support, correct. Reads the withheld labels.

    Every class keeps its row; counts of an absent one are 0.
    """
    truth = prepared.where(F.col(SPLIT) == UNLABELED).select(ID, F.col(HIDDEN_LABEL).alias("truth"))
    joined = pseudo_labels.join(truth, ID)
    classes = pseudo_labels.sparkSession.range(num_classes).select(F.col("id").cast("int").alias("class_id"))
    predicted = joined.groupBy(F.col(PSEUDO_LABEL).alias("class_id")).agg(F.count("*").alias("predicted"))
    is_right = (F.col(PSEUDO_LABEL) == F.col("truth")).cast("long")
    actual = joined.groupBy(F.col("truth").alias("class_id")).agg(
        F.count("*").alias("support"), F.sum(is_right).alias("correct")
    )
    return classes.join(predicted, "class_id", "left").join(actual, "class_id", "left").na.fill(0).orderBy("class_id")
