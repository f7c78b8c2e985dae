"""The draw of images (data/draws.py): in a task that reads them as in Spark's queries (frames/long_tail.py)."""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from longtail.conf.vocabulary import SPLITS
from longtail.data.contract import SOURCE_SCHEMA
from longtail.data.draws import Draw, draw_hashes
from longtail.spark_jobs.frames.long_tail import LongTail, collect_limits, keep_long_tail, with_bucket_counts

IDS = np.array([0, 1, -1, 7, 2**31, 2**40, 2**41 + 5, -(2**63), 2**63 - 1], np.int64)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31 - 1, 2**31, 2**40])
def test_hashes_are_those_of_spark(spark: SparkSession, seed: int) -> None:
    ids = spark.createDataFrame(pa.table({"id": IDS}))

    expected = dict(ids.select("id", F.xxhash64("id", F.lit(seed))).collect())

    assert dict(zip(IDS.tolist(), draw_hashes(IDS, seed).tolist(), strict=True)) == expected


@pytest.mark.parametrize("pool", ["train", "unlabeled"])
def test_a_task_draws_the_images_that_spark_draws(spark: SparkSession, pool: str) -> None:
    """200 training images of three classes, 30 test images, 10 skipped ones, and 60 unlabeled ones, 20 of no class."""
    labels = np.array([*(np.arange(200) % 3), *(np.arange(30) % 3), *[0] * 10, *(np.arange(60) % 3)], np.int32)
    labels[-20:] = -1
    splits = ["train"] * 200 + ["test"] * 30 + ["skipped"] * 10 + ["unlabeled"] * 60
    ids = np.arange(300)
    images = [f"{i}".encode() for i in ids]
    rows = pa.RecordBatch.from_arrays(
        [pa.array(ids), pa.array(images, pa.binary()), pa.array(labels), pa.array(splits)], schema=SOURCE_SCHEMA
    )
    counts = LongTail(
        val=[5, 0, 1], train=[30, 20, 1], unlabeled=[10, 7, 0], pool=pool, classless=4 if pool == "unlabeled" else 0
    )
    frame = spark.createDataFrame(pa.Table.from_batches([rows]))
    (limits,) = collect_limits(frame, [counts], with_bucket_counts(frame, seed=9).collect(), seed=9)
    left_out = np.array([200, 205])

    parts = Draw(limits, 9, left_out).parts_of(rows)

    kept = keep_long_tail(frame, limits, seed=9).where(~F.col("id").isin(left_out.tolist()))
    expected = {tuple(row) for row in kept.select("id", "image", "label", "hidden_label", "split").collect()}
    drawn = [(*row.values(), split) for split, (part, _) in parts.items() for row in part.to_pylist()]
    assert len(drawn) == len(set(drawn)) and set(drawn) == expected
    sizes = {split: len(hashes) for split, (_, hashes) in parts.items()}
    assert [sizes[split] for split in SPLITS] == [51, 6, 17 + counts.classless, 28]
    for part, hashes in parts.values():
        np.testing.assert_array_equal(hashes, draw_hashes(part.column("id").to_numpy(), 9))
