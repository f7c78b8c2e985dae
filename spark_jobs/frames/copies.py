"""Copies of images between the parts of a set, by their fingerprints (data/fingerprints.py). DataFrame to DataFrame."""

from collections.abc import Sequence
from functools import partial

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from longtail.conf.vocabulary import TEST, UNLABELED, VAL
from longtail.data.contract import HIDDEN_LABEL, ID, LABEL, SKIPPED, SPLIT
from longtail.data.fingerprints import CONTENT, HASH, NUM_BANDS, SKETCH
from longtail.data.matching import CONTENT_BAND, ORIGINALS, PAIR_SCHEMA, matched, spread

EXACT, NEAR = "exact", "near"
HELD_OUT = (TEST, VAL)
OF, KIND = "of", "kind"
NUM_EXAMPLES = 3


def with_matches(parts: DataFrame, *, near: bool, num_tasks: int) -> DataFrame:
    """Exact copies (PAIR_SCHEMA), and the images that have candidates for near copies.

    parts: FINGERPRINT_SCHEMA and HIDDEN_LABEL, with the parts of the set as splits
    near: look for near copies too. Two images are compared if they agree in a whole band of the hash
    num_tasks: that compare images
    """
    bands = (CONTENT_BAND, *(range(NUM_BANDS) if near else ()))
    return _matches(_images(parts), bands, sketches=False, num_tasks=num_tasks)


def with_copies(parts: DataFrame, matches: DataFrame, *, near: bool, num_tasks: int) -> DataFrame:
    """Unlabeled images that are copies of test or labelled images, and labelled ones that are copies of test images.

    id, split, class_id, kind (EXACT or NEAR), of (TEST, VAL or LABELLED, the other labelled images), of_id, of_class.
    An image that is a copy of several is listed once: as the copy of a test image, if it is that, or of one of VAL.

    matches: with_matches(), computed already
    near: whether these have candidates for near copies
    """
    found = matches.where(F.col("of_id").isNotNull())
    if near:
        candidates = matches.where(F.col("of_id").isNull()).select(ID).distinct()
        compared = _images(parts, SKETCH).join(candidates, ID, "left_semi")
        found = found.unionByName(_matches(compared, range(NUM_BANDS), sketches=True, num_tasks=num_tasks))
    best = found.groupBy(ID, SPLIT, "class_id").agg(
        F.min(F.struct("place", "is_near", "of_id", "of_class")).alias("of")
    )
    return best.select(
        ID, SPLIT, "class_id",
        F.element_at(F.lit([*ORIGINALS]), F.col("of.place") + 1).alias(OF), "of.of_id", "of.of_class",
        F.when(F.col("of.is_near"), NEAR).otherwise(EXACT).alias(KIND),
    )  # fmt: skip


def _images(parts: DataFrame, *more: str) -> DataFrame:
    return parts.select(ID, SPLIT, F.coalesce(LABEL, HIDDEN_LABEL).alias("class_id"), CONTENT, HASH, *more)


def _matches(images: DataFrame, bands: Sequence[int], *, sketches: bool, num_tasks: int) -> DataFrame:
    # Blocks of arrays are shuffled, a few for each task, as rows of their own would take many times longer.
    to_tasks = partial(spread, bands=bands, sketches=sketches, num_tasks=num_tasks)
    blocks = images.mapInArrow(to_tasks, "task int, block binary").repartition(num_tasks, "task")
    return blocks.mapInArrow(partial(matched, sketches=sketches), from_arrow_schema(PAIR_SCHEMA))


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


def with_conflicting_contents(images: DataFrame) -> DataFrame:
    """Contents of labelled and test images that have more than one class."""
    # Of numbers alone, as Spark sorts all rows for the least of pairs.
    return (
        _of_known_class(images)
        .groupBy(CONTENT)
        .agg(F.min(LABEL).alias("lowest"), F.max(LABEL).alias("highest"))
        .where(F.col("lowest") != F.col("highest"))
        .select(CONTENT)
    )


def with_label_conflicts(images: DataFrame) -> DataFrame:
    """The images of each of with_conflicting_contents: first and last (class_id, id)."""
    labelled = F.struct(F.col(LABEL).alias("class_id"), ID)
    return (
        _of_known_class(images)
        .join(with_conflicting_contents(images), CONTENT, "left_semi")
        .groupBy(CONTENT)
        .agg(F.min(labelled).alias("first"), F.max(labelled).alias("last"))
        .select("first", "last")
    )


def _of_known_class(images: DataFrame) -> DataFrame:
    return images.where(~F.col(SPLIT).isin(UNLABELED, SKIPPED))
