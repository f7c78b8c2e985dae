"""Statistics of the images of a prepared set: channel means and exact duplicates. DataFrame to DataFrame."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS, SPLITS
from longtail.data.contract import HIDDEN_LABEL, IMAGE, LABEL, SPLIT
from longtail.data.fingerprints import SUMS, sums_array
from longtail.data.loader import decode_images
from longtail.data.pixel_sums import pixel_sums

IMAGES_AT_ONCE = 512
_SUMS_SCHEMA = "split string, class_id int, channel int, num_pixels long, sum long, sum_of_squares long"


def with_pixel_sums(prepared: DataFrame, *, image_shape: tuple[int, int, int], encoding: str) -> DataFrame:
    """Exact sums over pixel values (0 to 255): split, class_id, channel, num_pixels, sum, sum_of_squares.

    class_id: in the unlabeled part the withheld label, or NO_CLASS
    """
    class_id = F.coalesce(LABEL, HIDDEN_LABEL, F.lit(NO_CLASS)).alias("class_id")
    add_up = partial(_partial_sums, image_shape=image_shape, encoding=encoding)
    sums = prepared.select(SPLIT, class_id, IMAGE).mapInArrow(add_up, _SUMS_SCHEMA)
    totals = [F.sum(name).alias(name) for name in ("num_pixels", "sum", "sum_of_squares")]
    return sums.groupBy(SPLIT, "class_id", "channel").agg(*totals)


def with_duplicates(images: DataFrame, content: Column) -> DataFrame:
    """Images that occur more than once, grouped by the splits in which they occur.

    splits (sorted, joined by a plus), num_contents (distinct images), num_images (rows)

    content: a hash of the image's bytes
    """
    # A bit for each split: a set of texts for each content would cost three times as much.
    names = sorted(SPLITS)
    bits = F.lit(0)
    for place, name in enumerate(names):
        bits = F.when(F.col(SPLIT) == name, 1 << place).otherwise(bits)
    found = [F.when(F.col("bits").bitwiseAND(1 << place) != 0, name) for place, name in enumerate(names)]
    return (
        images.groupBy(content.alias("content"))
        .agg(F.count("*").alias("copies"), F.bit_or(bits).alias("bits"))
        .where(F.col("copies") > 1)
        .groupBy(F.concat_ws("+", *found).alias("splits"))
        .agg(F.count("*").alias("num_contents"), F.sum("copies").alias("num_images"))
        .orderBy("splits")
    )


def collect_fingerprint_sums(images: DataFrame, *, image_shape: tuple[int, int, int]) -> "Sums":
    """Sums over the pixels of images of which there are fingerprints (data/fingerprints.py)."""
    parts = images.select(SUMS).mapInArrow(_sums_of_fingerprints, "sums binary, num_images long").collect()
    totals = sum(
        (np.frombuffer(part.sums, np.int64).reshape(2, -1).astype(object) for part in parts), np.zeros(1, object)
    )
    num_pixels = sum(part.num_images for part in parts) * image_shape[0] * image_shape[1]
    return {channel: (num_pixels, int(total), int(squares)) for channel, (total, squares) in enumerate(totals.T)}


def _sums_of_fingerprints(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The sum of each batch."""
    for batch in batches:
        if batch.num_rows:
            total = sums_array(batch.column(0)).sum(axis=0)
            columns = [pa.array([total.tobytes()]), pa.array([batch.num_rows], pa.int64())]
            yield pa.RecordBatch.from_arrays(columns, names=["sums", "num_images"])


@dataclass(frozen=True)
class Channels:
    """Mean and population standard deviation per channel, of pixel values in [0, 1]."""

    mean: list[float]
    std: list[float]


Sums = Mapping[int, tuple[int, int, int]]
"""num_pixels, sum and sum_of_squares, by channel."""


def channel_statistics(sums: Sums) -> Channels:
    """The statistics that follow from the sums."""
    means, stds = [], []
    for channel in sorted(sums):
        num_pixels, total, squares = sums[channel]
        means.append(total / num_pixels / 255)
        # In integers: no cancellation.
        stds.append(sqrt(num_pixels * squares - total**2) / num_pixels / 255)
    return Channels(means, stds)


def collect_sums(pixel_sums: DataFrame) -> Mapping[tuple[str, int], Sums]:
    """Collect the rows of with_pixel_sums, by split and class."""
    found: dict[tuple[str, int], dict[int, tuple[int, int, int]]] = {}
    for row in pixel_sums.collect():
        found.setdefault((row[SPLIT], row.class_id), {})[row.channel] = (row.num_pixels, row[4], row.sum_of_squares)
    return found


def sums_of_split(found: Mapping[tuple[str, int], Sums], split: str) -> Sums:
    """The sums over all classes of a split."""
    totals: dict[int, tuple[int, int, int]] = {}
    for (class_split, _), sums in found.items():
        if class_split == split:
            for channel, (num_pixels, total, squares) in sums.items():
                before = totals.get(channel, (0, 0, 0))
                totals[channel] = (before[0] + num_pixels, before[1] + total, before[2] + squares)
    return totals


def _partial_sums(
    batches: Iterator[pa.RecordBatch], *, image_shape: tuple[int, int, int], encoding: str
) -> Iterator[pa.RecordBatch]:
    """One row per split, class and channel of each batch."""
    for whole in batches:
        for first in range(0, whole.num_rows, IMAGES_AT_ONCE):
            batch = whole.slice(first, IMAGES_AT_ONCE)
            splits, split_indices = np.unique(np.array(batch.column(0).to_pylist()), return_inverse=True)
            groups = np.stack([split_indices, batch.column(1).to_numpy()], axis=1)  # (N, 2)
            groups, group_of, sizes = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
            order, starts = np.argsort(group_of, kind="stable"), np.cumsum(sizes) - sizes
            images = decode_images(batch.column(2), image_shape, encoding)
            sums, squares = (np.add.reduceat(of_image[order], starts) for of_image in pixel_sums(images))
            for channel in range(image_shape[2]):
                columns = [
                    pa.array(splits[groups[:, 0]]),
                    pa.array(groups[:, 1].astype(np.int32)),
                    pa.array(np.full(len(groups), channel, np.int32)),
                    pa.array(sizes * (image_shape[0] * image_shape[1])),
                    pa.array(sums[:, channel]),
                    pa.array(squares[:, channel]),
                ]
                names = ["split", "class_id", "channel", "num_pixels", "sum", "sum_of_squares"]
                yield pa.RecordBatch.from_arrays(columns, names=names)
