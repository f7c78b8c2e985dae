"""A prepared set on disk: its directory and manifest."""

import csv
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import printable
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import NO_CLASS, TEST, TRAIN, UNLABELED, VAL
from longtail.data.contract import SPLIT
from longtail.data.fingerprints import CONTENT
from longtail.data.manifest import Manifest
from longtail.data.sources.base import Located
from longtail.spark_jobs.frames.image_statistics import (
    Channels,
    channel_statistics,
    collect_fingerprint_sums,
    with_duplicates,
)
from longtail.spark_jobs.frames.long_tail import LongTail
from longtail.spark_jobs.steps.set_writing import WrittenRows

PREPARED_DIRECTORY = "prepared"
SKIPPED_FILE = "skipped_images.csv"
"""In a prepared set, if images were left out: their names and the reasons."""


def prepared_set_dir(options: DataOptions) -> Location:
    """The directory of the set that the options describe, whether or not it exists."""
    return options.data_dir.absolute() / PREPARED_DIRECTORY / options.set_name()


def channels_of(kept: DataFrame, *, image_shape: tuple[int, int, int]) -> Channels:
    """The statistics of the labelled images. kept: fingerprints of the images of a set, by their parts"""
    return channel_statistics(collect_fingerprint_sums(kept.where(F.col(SPLIT) == TRAIN), image_shape=image_shape))


def duplicates_of(kept: DataFrame) -> list[dict[str, Any]]:
    """The manifest's `duplicates`. kept: fingerprints of the images of a set, by their parts"""
    return [row.asDict() for row in with_duplicates(kept, F.col(CONTENT)).collect()]


def describe_set(
    written: WrittenRows,
    channels: Channels,
    duplicates: list[dict[str, Any]],
    options: DataOptions,
    sources: Sequence[Located],
    planned: LongTail,
) -> Manifest:
    """The manifest of the rows that were written, which are checked against the planned sizes."""
    base = sources[0]
    counts = {
        split: [of_split.get(label, 0) for label in range(len(base.class_names))]
        for split, of_split in written.class_counts.items()
    }
    num_classless = sum(of_split.get(NO_CLASS, 0) for of_split in written.class_counts.values())
    expected = {VAL: planned.val, TRAIN: planned.train, UNLABELED: planned.unlabeled}
    assert all(counts[split] == list(sizes) for split, sizes in expected.items()), (counts, expected)
    assert num_classless == planned.classless, (num_classless, planned.classless)
    assert sum(counts[TEST]) > 0, "a source has a test split"
    return Manifest(
        dataset=options.dataset,
        parameters=options.set_parameters(),
        class_names=list(base.class_names),
        image_shape=base.image_shape,
        encoding=base.encoding,
        counts=counts,
        num_classless=num_classless,
        num_bad_images=0,
        checksums=dict(written.checksums),
        channel_mean=channels.mean,
        channel_std=channels.std,
        duplicates=duplicates,
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
