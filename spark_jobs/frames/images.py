"""Transforms of image tables, DataFrame to DataFrame: no session, no write, no action."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import (
    HIDDEN_LABEL,
    ID,
    IMAGE,
    IRRELEVANT_FIRST_ID,
    LABEL,
    PREPARED_SCHEMA,
    PSEUDO_LABEL,
    ROWS_DIRECTORY,
    SOURCE_SCHEMA,
    SPLIT,
)
from longtail.data.delta import delta_files, is_delta
from longtail.data.sources.base import Shard, Source, UnlabeledSource

_RANK = "_rank"
BUCKET = "_bucket"
BUCKET_BITS = 4
"""Sixteen tasks may share a class."""

ROWS_PER_BATCH = 4096
TASKS_PER_SLOT = 8


def source_images(spark: SparkSession, source: Source | UnlabeledSource, shards: Sequence[Shard]) -> DataFrame:
    """The source's images (SOURCE_SCHEMA), each shard read and verified by one task."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch.column(0).to_pylist():
                rows = source.read(shards[index])
                # A shard may be a file of gigabytes; what goes to the JVM at once should not be.
                for first in range(0, max(rows.num_rows, 1), ROWS_PER_BATCH):
                    yield rows.slice(first, ROWS_PER_BATCH)

    num_tasks = min(len(shards), TASKS_PER_SLOT * spark.sparkContext.defaultParallelism)
    numbers = spark.range(0, len(shards), 1, numPartitions=num_tasks)
    return numbers.mapInArrow(read, f"{ID} long, {IMAGE} binary, {LABEL} int, {SPLIT} string").select(
        *SOURCE_SCHEMA.names
    )


def as_irrelevant(images: DataFrame) -> DataFrame:
    """The training images of another data set as unlabeled ones of no class."""
    return images.where(F.col(SPLIT) == TRAIN).select(
        (F.col(ID) + IRRELEVANT_FIRST_ID).alias(ID),
        IMAGE,
        F.lit(NO_CLASS).alias(LABEL),
        F.lit(UNLABELED).alias(SPLIT),
    )


def read_prepared(spark: SparkSession, set_dir: Path) -> DataFrame:
    """The rows of a prepared set (PREPARED_SCHEMA)."""
    return read_table(spark, set_dir / ROWS_DIRECTORY)


def read_table(spark: SparkSession, table: Path) -> DataFrame:
    """A Parquet table, or the newest version of a Delta table."""
    if not is_delta(table):
        return spark.read.parquet(str(table))
    return spark.read.option("basePath", str(table)).parquet(*map(str, delta_files(table)))


def with_bucket_counts(images: DataFrame, *, seed: int) -> DataFrame:
    """Images per class of each split of the sources, by where their hash lies: split, label, bucket, count."""
    return images.groupBy(SPLIT, LABEL, _bucket(seed).alias(BUCKET)).count()


def _hash(seed: int) -> Column:
    return F.xxhash64(F.col(ID), F.lit(seed))


def _bucket(seed: int) -> Column:
    """The hash's upper bits, signed as it is: every hash of a bucket is smaller than all of the next."""
    return F.shiftright(_hash(seed), 64 - BUCKET_BITS).cast("int")


@dataclass(frozen=True, kw_only=True)
class LongTail:
    """Images of the parts, by label, each (num_classes,).

    pool: the source split that the unlabeled part is drawn from: TRAIN, or UNLABELED if it has a source of its own
    classless: unlabeled images of no class, drawn from those of UNLABELED
    """

    val: Sequence[int]
    train: Sequence[int]
    unlabeled: Sequence[int]
    pool: str = TRAIN
    classless: int = 0


def keep_long_tail(
    images: DataFrame, counts: LongTail, bucket_counts: Sequence[tuple[str, int, int, int]], *, seed: int
) -> DataFrame:
    """Cut the sources into validation, labelled and unlabeled parts of exactly the given sizes; keep the test.

    Within a class of a split, images are ranked by a hash of (id, seed): the choice does not depend on partitions or
    file order, and the parts cannot overlap. The unlabeled part's label moves to HIDDEN_LABEL.

    bucket_counts: the rows of with_bucket_counts for the same images and seed. An image's rank is the number of images
    in lower buckets and its rank in its own, so a huge class is ranked by many tasks, and what is beyond its sizes by
    none.
    """
    bounds = [(UNLABELED, NO_CLASS, 0, 0, counts.classless)]
    for label, (val, train, unlabeled) in enumerate(zip(counts.val, counts.train, counts.unlabeled, strict=True)):
        labelled = val + train
        if counts.pool == TRAIN:
            bounds.append((TRAIN, label, val, labelled, labelled + unlabeled))
        else:
            bounds += [(TRAIN, label, val, labelled, labelled), (UNLABELED, label, 0, 0, unlabeled)]
    bucket_rows = images.sparkSession.createDataFrame(
        _wanted_buckets(bounds, bucket_counts),
        f"{SPLIT} string, {LABEL} int, {BUCKET} int, before long, val_end long, train_end long, unlabeled_end long",
    )
    by_hash = Window.partitionBy(SPLIT, LABEL, BUCKET).orderBy(_hash(seed), ID)
    part = (
        F.when(F.col(_RANK) <= F.col("val_end"), VAL)
        .when(F.col(_RANK) <= F.col("train_end"), TRAIN)
        .when(F.col(_RANK) <= F.col("unlabeled_end"), UNLABELED)
    )
    cut = (
        images.where(F.col(SPLIT) != TEST)
        .withColumn(BUCKET, _bucket(seed))
        .join(F.broadcast(bucket_rows), [SPLIT, LABEL, BUCKET])
        .withColumn(_RANK, F.col("before") + F.row_number().over(by_hash))
        .withColumn(SPLIT, part)
        .where(F.col(SPLIT).isNotNull())
        .select(*SOURCE_SCHEMA.names)
    )
    hidden = F.col(SPLIT) == UNLABELED
    return (
        cut.unionByName(images.where(F.col(SPLIT) == TEST))
        .withColumn(HIDDEN_LABEL, F.when(hidden & (F.col(LABEL) != NO_CLASS), F.col(LABEL)))
        .withColumn(LABEL, F.when(~hidden, F.col(LABEL)))
        .select(*PREPARED_SCHEMA.names)
    )


def _wanted_buckets(
    bounds: Sequence[tuple[str, int, int, int, int]], bucket_counts: Sequence[tuple[str, int, int, int]]
) -> list[tuple[str, int, int, int, int, int, int]]:
    """split, label, bucket, images of the class in lower buckets, and the class's bounds; without needless buckets."""
    ends = {(split, label): of_class for split, label, *of_class in bounds}
    before: Counter[tuple[str, int]] = Counter()
    rows = []
    for split, label, bucket, count in sorted(map(tuple, bucket_counts)):
        key = (split, label)
        if key in ends and before[key] < ends[key][-1]:
            rows.append((split, label, bucket, before[key], *ends[key]))
        before[key] += count
    return rows


def with_split_counts(prepared: DataFrame) -> DataFrame:
    """Images per split and class (the withheld one in the unlabeled part, or NO_CLASS): split, class_id, count."""
    return prepared.groupBy(SPLIT, F.coalesce(LABEL, HIDDEN_LABEL, F.lit(NO_CLASS)).alias("class_id")).count()


def with_split_checksums(prepared: DataFrame) -> DataFrame:
    """split, checksum: exclusive or of the rows' hashes, so neither order nor files matter."""
    # Spark's hash passes over nulls: a label would count the same in either column.
    labels = [F.coalesce(name, F.lit(-1)) for name in (LABEL, HIDDEN_LABEL)]
    row_hash = F.xxhash64(ID, IMAGE, *labels)
    return prepared.groupBy(SPLIT).agg(F.hex(F.bit_xor(row_hash)).alias("checksum"))


def with_label_quality(pseudo_labels: DataFrame, prepared: DataFrame, *, num_classes: int) -> DataFrame:
    """How right pseudo-labels are: class_id, predicted, support, labelled, correct. Reads the withheld labels.

    predicted: images that are said to be of the class; support: images of the unlabeled part that are of it;
    labelled: of these, those that have a pseudo-label; correct: of these, those that have the right one

    An image whose withheld label is null can be predicted, but not rightly.
    Every class keeps its row; counts of an absent one are 0.
    """
    truth = prepared.where(F.col(SPLIT) == UNLABELED).select(ID, F.col(HIDDEN_LABEL).alias("truth"))
    joined = truth.join(pseudo_labels.select(ID, PSEUDO_LABEL), ID, "left")
    classes = pseudo_labels.sparkSession.range(num_classes).select(F.col("id").cast("int").alias("class_id"))
    predicted = joined.groupBy(F.col(PSEUDO_LABEL).alias("class_id")).agg(F.count("*").alias("predicted"))
    is_right = (F.col(PSEUDO_LABEL) == F.col("truth")).cast("long")
    actual = joined.groupBy(F.col("truth").alias("class_id")).agg(
        F.count("*").alias("support"), F.count(PSEUDO_LABEL).alias("labelled"), F.sum(is_right).alias("correct")
    )
    return classes.join(predicted, "class_id", "left").join(actual, "class_id", "left").na.fill(0).orderBy("class_id")
