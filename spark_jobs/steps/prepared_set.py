"""A prepared set on disk: its directory, rows and manifest."""

import csv
import math
from collections.abc import Sequence

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.locations import Location, spark_uri
from longtail.conf.base.shown_text import printable
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import NO_CLASS, SPLITS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import ID, IMAGE, ROWS_DIRECTORY, SPLIT
from longtail.data.manifest import Manifest
from longtail.data.sources.base import Located
from longtail.spark_jobs.cluster.cancellation import write_to_its_end
from longtail.spark_jobs.frames.image_statistics import (
    channel_statistics,
    collect_checksums,
    collect_sums,
    sums_of_split,
    with_checksum_parts,
    with_duplicates,
    with_pixel_sums,
)
from longtail.spark_jobs.frames.label_statistics import with_split_counts
from longtail.spark_jobs.frames.long_tail import LongTail
from longtail.spark_jobs.frames.reading import read_prepared

PREPARED_DIRECTORY = "prepared"
SKIPPED_FILE = "skipped_images.csv"
"""In a prepared set, if images were left out: their names and the reasons."""
TARGET_FILE_BYTES = 128 * 1024**2
ROW_GROUP_BYTES = 16 * 1024**2


def prepared_set_dir(options: DataOptions) -> Location:
    """The directory of the set that the options describe, whether or not it exists."""
    return options.data_dir.absolute() / PREPARED_DIRECTORY / options.set_name()


def write_rows(long_tail: DataFrame, directory: Location, located: Located, counts: LongTail) -> None:
    """Write the images of a long tail as Parquet, partitioned by split, in files of about TARGET_FILE_BYTES."""
    num_images = sum(counts.val) + sum(counts.train) + sum(counts.unlabeled) + counts.classless
    # An encoded image takes at most about as many bytes as its pixels.
    image_bytes = int(np.prod(located.image_shape))
    files_per_split = math.ceil(max(num_images, 1) * image_bytes / TARGET_FILE_BYTES)
    writer = (
        # By a hash of the id, so that each file has the same content on every cluster.
        long_tail.repartition(len(SPLITS) * files_per_split, SPLIT, F.pmod(F.hash(ID), F.lit(files_per_split)))
        .sortWithinPartitions(SPLIT, ID)
        .write.partitionBy(SPLIT)
        .option("compression", "lz4_raw")
        .option("parquet.block.size", ROW_GROUP_BYTES)
        # Few images repeat: a dictionary would only cost memory.
        .option(f"parquet.enable.dictionary#{IMAGE}", "false")
    )
    write_to_its_end(long_tail.sparkSession, lambda: writer.parquet(spark_uri(directory / ROWS_DIRECTORY)))


def describe_set(
    spark: SparkSession,
    directory: Location,
    options: DataOptions,
    sources: Sequence[Located],
    planned: LongTail,
    *,
    num_bad_images: int,
) -> Manifest:
    """The manifest of the rows on disk, which are checked against the planned sizes."""
    base = sources[0]
    written = read_prepared(spark, directory)
    counts = {split: [0] * len(base.class_names) for split in SPLITS}
    num_classless = 0
    for split, class_id, count in with_split_counts(written).collect():
        if class_id == NO_CLASS:
            num_classless += count
        else:
            counts[split][class_id] = count
    expected = {VAL: planned.val, TRAIN: planned.train, UNLABELED: planned.unlabeled}
    assert all(counts[split] == list(sizes) for split, sizes in expected.items()), (counts, expected)
    assert num_classless == planned.classless, (num_classless, planned.classless)
    assert sum(counts[TEST]) > 0, "a source has a test split"
    train = written.where(written[SPLIT] == TRAIN)
    pixel_sums = collect_sums(with_pixel_sums(train, image_shape=base.image_shape, encoding=base.encoding))
    channels = channel_statistics(sums_of_split(pixel_sums, TRAIN))
    return Manifest(
        dataset=options.dataset,
        parameters=options.set_parameters(),
        class_names=list(base.class_names),
        image_shape=base.image_shape,
        encoding=base.encoding,
        counts=counts,
        num_classless=num_classless,
        num_bad_images=num_bad_images,
        checksums=collect_checksums(with_checksum_parts(written)),
        channel_mean=channels.mean,
        channel_std=channels.std,
        duplicates=[row.asDict() for row in with_duplicates(written).collect()],
        source="; ".join(source.origin for source in sources),
    )


def write_skipped_images(directory: Location, skipped: Sequence[tuple[str, str]]) -> None:
    """Write SKIPPED_FILE: image and reason of each; nothing if there are none."""
    if not skipped:
        return
    with (directory / SKIPPED_FILE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "reason"])
        rows.writerows([printable(name), printable(reason)] for name, reason in sorted(skipped))
