"""Splits images into the parts of a long-tailed set. DataFrame to DataFrame."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED
from longtail.data.contract import HIDDEN_LABEL, ID, LABEL, SPLIT
from longtail.data.draws import DRAWN, WHOLE, DrawLimits

_RANK = "_rank"
BUCKET = "_bucket"
BUCKET_BITS = 4
"""Up to 16 tasks rank the images of a class."""

_BUCKET_SCHEMA = pa.schema([
    (SPLIT, pa.string()), (LABEL, pa.int32()), (BUCKET, pa.int32()), ("before", pa.int64()),
    ("ends", pa.list_(pa.int64())),
])  # fmt: skip
_LIMIT_SCHEMA = pa.schema([(SPLIT, pa.string()), (LABEL, pa.int32()), *((f"_{part}", pa.int64()) for part in DRAWN)])

BucketCount = tuple[str, int, int, int]
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

    @property
    def num_images(self) -> int:
        """Of these parts, the test images not included."""
        return sum(self.val) + sum(self.train) + sum(self.unlabeled) + self.classless


def with_bucket_counts(images: DataFrame, *, seed: int) -> DataFrame:
    """Images per class of each source split and bucket of hashes: split, label, bucket, count."""
    return images.groupBy(SPLIT, LABEL, _bucket(seed).alias(BUCKET)).count()


def collect_limits(
    images: DataFrame, plans: Sequence[LongTail], bucket_counts: Sequence[BucketCount], *, seed: int
) -> list[DrawLimits]:
    """For each plan, the limits of the hashes by which the parts have exactly the planned sizes.

    images: SPLIT and LABEL of a source, and ID
    bucket_counts: the rows of with_bucket_counts for the same images and seed. An image's rank is the number of images
    in lower buckets plus its rank in its own bucket, so that only the buckets in which a part ends are ranked, and many
    tasks rank a large class.
    """
    ends_of_plans = [_ends(counts) for counts in plans]
    ends = _together(ends_of_plans)
    bucket_rows = _as_frame(images.sparkSession, _buckets_of_ends(ends, bucket_counts), _BUCKET_SCHEMA)
    by_hash = Window.partitionBy(SPLIT, LABEL, BUCKET).orderBy("_hash")
    found = (
        images.select(SPLIT, LABEL, _bucket(seed).alias(BUCKET), _hash(seed).alias("_hash"))
        .join(F.broadcast(bucket_rows), [SPLIT, LABEL, BUCKET])
        .withColumn(_RANK, F.col("before") + F.row_number().over(by_hash))
        .where(F.array_contains("ends", F.col(_RANK)))
        .select(SPLIT, LABEL, _RANK, "_hash")
    )
    hashes = {(split, label, rank): last for split, label, rank, last in found.collect()}
    return [
        {
            key: (hashes.get((*key, val)), hashes.get((*key, train)), hashes.get((*key, unlabeled)))
            for key, (val, train, unlabeled) in of_plan.items()
        }
        for of_plan in ends_of_plans
    ]


def keep_long_tail(images: DataFrame, limits: DrawLimits, *, seed: int) -> DataFrame:
    """Split the images into parts by the limits of their hashes: validation, labelled and unlabeled ones, and tests.

    Test images, and validation images that are the source's, are kept whole.

    The choice does not depend on partitions or file order, and the parts cannot overlap. The label of an unlabeled
    image moves to HIDDEN_LABEL. data/draws.py does the same with images that a task reads.

    images: SPLIT and LABEL of a source, ID, and any other columns, which are kept
    """
    limit_rows = _as_frame(images.sparkSession, [(*key, *of_class) for key, of_class in limits.items()], _LIMIT_SCHEMA)
    part = F.when(F.col(SPLIT).isin(*WHOLE), F.col(SPLIT))
    for name in DRAWN:
        part = part.when(_hash(seed) <= F.col(f"_{name}"), name)
    hidden = F.col(SPLIT) == UNLABELED
    return (
        images.join(F.broadcast(limit_rows), [SPLIT, LABEL], "left")
        .withColumn(SPLIT, part)
        .where(F.col(SPLIT).isNotNull())
        .select(*images.columns)
        .withColumn(HIDDEN_LABEL, F.when(hidden & (F.col(LABEL) != NO_CLASS), F.col(LABEL)))
        .withColumn(LABEL, F.when(~hidden, F.col(LABEL)))
    )


def _as_frame(spark: SparkSession, rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> DataFrame:
    """The rows as a DataFrame. Unlike rows of Python, those of Arrow reach the JVM without a Python worker."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return spark.createDataFrame(pa.table(dict(zip(schema.names, columns, strict=True)), schema))


def _ends(counts: LongTail) -> dict[tuple[str, int], tuple[int, int, int]]:
    """By split of the source and label: the rank of the last image of each of the DRAWN parts."""
    ends = {(UNLABELED, NO_CLASS): (0, 0, counts.classless)}
    for label, (val, train, unlabeled) in enumerate(zip(counts.val, counts.train, counts.unlabeled, strict=True)):
        val = 0 if counts.has_own_val else val
        labelled = val + train
        if counts.pool == TRAIN:
            ends[TRAIN, label] = (val, labelled, labelled + unlabeled)
        else:
            ends[TRAIN, label] = (val, labelled, labelled)
            ends[UNLABELED, label] = (0, 0, unlabeled)
    return ends


def _together(ends_of_plans: Sequence[Mapping[tuple[str, int], Sequence[int]]]) -> dict[tuple[str, int], set[int]]:
    """By split of the source and label: the ranks at which a part of some plan ends."""
    together: dict[tuple[str, int], set[int]] = {}
    for ends in ends_of_plans:
        for key, ranks in ends.items():
            together.setdefault(key, set()).update(ranks)
    return together


def _buckets_of_ends(
    ends: Mapping[tuple[str, int], Collection[int]], bucket_counts: Sequence[BucketCount]
) -> list[tuple[str, int, int, int, list[int]]]:
    """The buckets in which a part ends: split, label, bucket, images of the class in lower buckets, the ends."""
    before: Counter[tuple[str, int]] = Counter()
    rows: list[tuple[str, int, int, int, list[int]]] = []
    for split, label, bucket, count in sorted(bucket_counts):
        key = (split, label)
        within = sorted(end for end in ends.get(key, ()) if before[key] < end <= before[key] + count)
        if within:
            rows.append((split, label, bucket, before[key], within))
        before[key] += count
    return rows


def _hash(seed: int) -> Column:
    return F.xxhash64(F.col(ID), F.lit(seed))


def _bucket(seed: int) -> Column:
    """The upper bits of the hash, signed: each hash in a bucket is smaller than all in the next bucket."""
    return F.shiftright(_hash(seed), 64 - BUCKET_BITS).cast("int")
