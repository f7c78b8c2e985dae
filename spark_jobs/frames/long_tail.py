"""Splits images into the parts of a long-tailed set. DataFrame to DataFrame."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import (
    HIDDEN_LABEL,
    ID,
    IMAGE,
    LABEL,
    SKIPPED,
    SPLIT,
)

_RANK = "_rank"
BUCKET = "_bucket"
BUCKET_BITS = 4
"""Up to 16 tasks rank the images of a class."""
WHOLE = (TEST, VAL)
"""Splits of a source of which all images are kept."""

BucketCount = tuple[str, int, int, int, Sequence[bytes]]
"""A row of with_bucket_counts."""


@dataclass(frozen=True, kw_only=True)
class LongTail:
    """Numbers of images: per part and class, each (num_classes,).

    has_own_val: the validation images are the source's, all of them, instead of drawn from its training images
    pool: the source split from which the unlabeled part is drawn: TRAIN, or UNLABELED if it has a source of its own
    classless: unlabeled images of none of the classes, drawn from UNLABELED
    """

    val: Sequence[int]
    train: Sequence[int]
    unlabeled: Sequence[int]
    has_own_val: bool = False
    pool: str = TRAIN
    classless: int = 0


def with_bucket_counts(images: DataFrame, *, seed: int) -> DataFrame:
    """Images per class of each source split and bucket of hashes: split, label, bucket, count, skipped.

    skipped: of the split SKIPPED, the images themselves, which say what was left out
    """
    skipped = F.when(F.col(SPLIT) == SKIPPED, F.col(IMAGE))
    return images.groupBy(SPLIT, LABEL, _bucket(seed).alias(BUCKET)).agg(
        F.count("*").alias("count"), F.collect_list(skipped).alias(SKIPPED)
    )


def keep_long_tail(
    images: DataFrame, counts: LongTail, bucket_counts: Sequence[BucketCount], *, seed: int
) -> DataFrame:
    """Split the images into validation, labelled and unlabeled parts of exactly the given sizes, and all test images.

    Test images, and validation images that are the source's, are kept whole.

    Within a class of a split, images are ranked by a hash of (id, seed): the choice does not depend on partitions or
    file order, and the parts cannot overlap. The label of an unlabeled image moves to HIDDEN_LABEL.

    images: SPLIT and LABEL of a source, ID, and any other columns, which are kept
    bucket_counts: the rows of with_bucket_counts for the same images and seed. An image's rank is the number of images
    in lower buckets plus its rank in its own bucket, so that many tasks rank a large class, and none ranks the buckets
    beyond its sizes.
    """
    bounds = [(UNLABELED, NO_CLASS, 0, 0, counts.classless)]
    for label, (val, train, unlabeled) in enumerate(zip(counts.val, counts.train, counts.unlabeled, strict=True)):
        val = 0 if counts.has_own_val else val
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
        images.where(~F.col(SPLIT).isin(*WHOLE))
        .withColumn(BUCKET, _bucket(seed))
        .join(F.broadcast(bucket_rows), [SPLIT, LABEL, BUCKET])
        .withColumn(_RANK, F.col("before") + F.row_number().over(by_hash))
        .withColumn(SPLIT, part)
        .where(F.col(SPLIT).isNotNull())
        .select(*images.columns)
    )
    hidden = F.col(SPLIT) == UNLABELED
    return (
        cut.unionByName(images.where(F.col(SPLIT).isin(*WHOLE)))
        .withColumn(HIDDEN_LABEL, F.when(hidden & (F.col(LABEL) != NO_CLASS), F.col(LABEL)))
        .withColumn(LABEL, F.when(~hidden, F.col(LABEL)))
    )


def _wanted_buckets(
    bounds: Sequence[tuple[str, int, int, int, int]], bucket_counts: Sequence[BucketCount]
) -> list[tuple[str, int, int, int, int, int, int]]:
    """The buckets with images that are kept: split, label, bucket, images of the class in lower buckets, bounds."""
    ends = {(split, label): (val, train, unlabeled) for split, label, val, train, unlabeled in bounds}
    before: Counter[tuple[str, int]] = Counter()
    rows: list[tuple[str, int, int, int, int, int, int]] = []
    for split, label, bucket, count, _ in sorted(bucket_counts):
        key = (split, label)
        if key in ends and before[key] < ends[key][-1]:
            rows.append((split, label, bucket, before[key], *ends[key]))
        before[key] += count
    return rows


def _hash(seed: int) -> Column:
    return F.xxhash64(F.col(ID), F.lit(seed))


def _bucket(seed: int) -> Column:
    """The upper bits of the hash, signed: each hash in a bucket is smaller than all in the next bucket."""
    return F.shiftright(_hash(seed), 64 - BUCKET_BITS).cast("int")
