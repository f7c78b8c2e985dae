"""DataFrames of images: of a source, of a prepared set, of a Parquet or Delta table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED
from longtail.data.contract import ID, IMAGE, IRRELEVANT_FIRST_ID, LABEL, ROWS_DIRECTORY, SOURCE_SCHEMA, SPLIT
from longtail.data.delta import delta_files, is_delta
from longtail.data.sources.base import Shard, Source, UnlabeledSource

ROWS_PER_BATCH = 4096
TASKS_PER_SLOT = 8


def source_images(spark: SparkSession, source: Source | UnlabeledSource, shards: Sequence[Shard]) -> DataFrame:
    """The images of a source (SOURCE_SCHEMA); each shard is read and verified by one task."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch.column(0).to_pylist():
                rows = source.read(shards[index])
                # A shard may be a file of gigabytes: it is sent to the JVM in parts.
                for first in range(0, max(rows.num_rows, 1), ROWS_PER_BATCH):
                    yield rows.slice(first, ROWS_PER_BATCH)

    num_tasks = min(len(shards), TASKS_PER_SLOT * spark.sparkContext.defaultParallelism)
    numbers = spark.range(0, len(shards), 1, numPartitions=num_tasks)
    return numbers.mapInArrow(read, f"{ID} long, {IMAGE} binary, {LABEL} int, {SPLIT} string").select(
        *SOURCE_SCHEMA.names
    )


def as_irrelevant(images: DataFrame) -> DataFrame:
    """The training images of another data set as unlabeled images of none of the classes."""
    return images.where(F.col(SPLIT) == TRAIN).select(
        (F.col(ID) + IRRELEVANT_FIRST_ID).alias(ID),
        IMAGE,
        F.lit(NO_CLASS).alias(LABEL),
        F.lit(UNLABELED).alias(SPLIT),
    )


def read_prepared(spark: SparkSession, set_dir: Path) -> DataFrame:
    """The rows of a prepared set (PREPARED_SCHEMA)."""
    return read_parquet_or_delta(spark, set_dir / ROWS_DIRECTORY)


def read_parquet_or_delta(spark: SparkSession, table: Path) -> DataFrame:
    """A Parquet table, or the newest version of a Delta table."""
    if not is_delta(table):
        return spark.read.parquet(str(table))
    return spark.read.option("basePath", str(table)).parquet(*map(str, delta_files(table)))
