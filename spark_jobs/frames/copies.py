"""Copies of images between the parts of a set, by their fingerprints (data/fingerprints.py). DataFrame to DataFrame."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from longtail.conf.vocabulary import TEST, UNLABELED, VAL
from longtail.data.contract import HIDDEN_LABEL, ID, LABEL, SKIPPED, SPLIT
from longtail.data.fingerprints import (
    BAND_BITS,
    CONTENT,
    HASH,
    MAX_BITS,
    NUM_BANDS,
    SKETCH,
    are_near_copies,
    sketches_array,
)

EXACT, NEAR = "exact", "near"
LABELLED = "labelled"
HELD_OUT = (TEST, VAL)
_ORIGINALS = (*HELD_OUT, LABELLED)
"""What an image may be a copy of, the most important first."""
OF, KIND = "of", "kind"
NUM_EXAMPLES = 3

_KEY, _ORIGINAL = "key", "original"
_FOR_LABELLED = 1 << 3
"""Added to the number of a band in the keys by which labelled images find test images, and only those."""


def with_copies(parts: DataFrame, *, near: bool) -> DataFrame:
    """Unlabeled images that are copies of test or labelled images, and labelled ones that are copies of test images.

    id, split, class_id, kind (EXACT or NEAR), of (TEST, VAL or LABELLED, the other labelled images), of_id, of_class.
    An image that is a copy of several is listed once: as the copy of a test image, if it is that, or of one of VAL.

    parts: FINGERPRINT_SCHEMA and HIDDEN_LABEL, with the parts of the set as splits
    near: find near copies too. Two images are compared if they agree in a whole band of the hash
    """
    images = parts.select(ID, SPLIT, F.coalesce(LABEL, HIDDEN_LABEL).alias("class_id"), CONTENT, HASH, SKETCH)
    of = F.when(F.col(SPLIT).isin(*HELD_OUT), F.col(SPLIT)).otherwise(LABELLED)
    # One image for each content: a thousand equal ones, such as blank ones, are compared once.
    originals = (
        images.where(F.col(SPLIT) != UNLABELED)
        .groupBy(CONTENT, of.alias(OF))
        .agg(F.min(F.struct(ID, "class_id")).alias("first"), F.first(HASH).alias(HASH), F.first(SKETCH).alias(SKETCH))
    )
    columns = ["first.id", "first.class_id", CONTENT, HASH, SKETCH, OF]
    as_original = F.struct(*columns).alias(_ORIGINAL)
    to_test = F.when(F.col(OF) == TEST, _keys(near=near, flag=_FOR_LABELLED)).otherwise(F.array().cast("array<bigint>"))
    right = originals.select(as_original, F.explode(F.concat(_keys(near=near), to_test)).alias(_KEY))
    own_keys = F.when(F.col(SPLIT) == UNLABELED, _keys(near=near)).otherwise(_keys(near=near, flag=_FOR_LABELLED))
    left = images.where(F.col(SPLIT) != TEST).withColumn(_KEY, F.explode(own_keys))
    is_exact = F.col(CONTENT) == F.col(f"{_ORIGINAL}.{CONTENT}")
    differing = F.bit_count(F.col(HASH).bitwiseXOR(F.col(f"{_ORIGINAL}.{HASH}")))
    pairs = left.join(right, _KEY).where(is_exact | (differing <= MAX_BITS))
    found = pairs.select(
        ID, SPLIT, "class_id",
        # In the order in which the best of several is chosen: in that of _ORIGINALS, then EXACT before NEAR.
        F.struct(
            F.array_position(F.lit([*_ORIGINALS]), F.col(f"{_ORIGINAL}.{OF}")).alias("place"),
            F.when(is_exact, EXACT).otherwise(NEAR).alias(KIND),
            F.col(f"{_ORIGINAL}.id").alias("of_id"), F.col(f"{_ORIGINAL}.class_id").alias("of_class"),
        ).alias(_ORIGINAL),
        SKETCH, F.col(f"{_ORIGINAL}.{SKETCH}").alias("of_sketch"), is_exact.alias("is_exact"),
    )  # fmt: skip
    if near:
        found = found.mapInArrow(_copies_alone, found.schema)
    best = found.groupBy(ID, SPLIT, "class_id").agg(F.min(_ORIGINAL).alias(_ORIGINAL))
    of = F.element_at(F.lit([*_ORIGINALS]), F.col(f"{_ORIGINAL}.place").cast("int")).alias(OF)
    return best.select(ID, SPLIT, "class_id", of, *(f"{_ORIGINAL}.{name}" for name in ("of_id", "of_class", KIND)))


def with_copy_counts(copies: DataFrame) -> DataFrame:
    """Copies by kind: split, of, kind, num_images, num_conflicts (of another class), examples [(id, of_id)]."""
    by_kind = [SPLIT, OF, KIND]
    place = F.row_number().over(Window.partitionBy(*by_kind).orderBy(ID))
    conflict = F.coalesce((F.col("class_id") != F.col("of_class")).cast("int"), F.lit(0))
    example = F.when(F.col("place") <= NUM_EXAMPLES, F.struct(ID, "of_id"))
    return (
        copies.withColumn("place", place)
        .groupBy(*by_kind)
        .agg(
            F.count("*").alias("num_images"),
            F.sum(conflict).alias("num_conflicts"),
            F.sort_array(F.collect_list(example)).alias("examples"),
        )
        .orderBy(*by_kind)
    )


def with_label_conflicts(images: DataFrame) -> DataFrame:
    """Labelled and test images of the same content that have more than one class: first and last (class_id, id)."""
    labelled = F.struct(F.col(LABEL).alias("class_id"), ID)
    return (
        images.where(~F.col(SPLIT).isin(UNLABELED, SKIPPED))
        .groupBy(CONTENT)
        .agg(F.min(labelled).alias("first"), F.max(labelled).alias("last"))
        .where(F.col("first.class_id") != F.col("last.class_id"))
        .select("first", "last")
    )


def _keys(*, near: bool, flag: int = 0) -> Column:
    """What images have in common that are compared: the content, or a band of the hash with the band's number.

    A content and a band may be the same number: the pair is then compared unnecessarily.
    """
    content = F.col(CONTENT) if not flag else F.col(CONTENT).bitwiseXOR(F.lit(flag << BAND_BITS))
    if not near:
        return F.array(content)
    mask = (1 << BAND_BITS) - 1
    bits = [F.shiftrightunsigned(HASH, band * BAND_BITS).bitwiseAND(mask) for band in range(NUM_BANDS)]
    bands = [of_band + F.lit((band + flag) << BAND_BITS) for band, of_band in enumerate(bits)]
    return F.when(F.col(HASH).isNull(), F.array(content)).otherwise(F.array(content, *bands))


def _copies_alone(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Without the pairs whose sketches differ too much."""
    for batch in batches:
        is_copy = np.array(batch.column("is_exact").to_pylist(), bool)
        compared = batch.filter(pa.array(~is_copy))
        first, second = (sketches_array(compared.column(name)) for name in (SKETCH, "of_sketch"))
        is_copy[~is_copy] = are_near_copies(first, second)
        yield batch.filter(pa.array(is_copy))
