"""DataFrames of images: of a source, of a prepared set, of a Parquet or Delta table."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, spark_uri
from longtail.conf.vocabulary import NO_CLASS, TRAIN, UNLABELED
from longtail.data.contract import ID, IRRELEVANT_FIRST_ID, LABEL, RAW, ROWS_DIRECTORY, SOURCE_SCHEMA, SPLIT
from longtail.data.delta import delta_files, is_delta
from longtail.data.fingerprints import FINGERPRINT_SCHEMA, Examination, fingerprints
from longtail.data.sources.base import Located, Shard, Source, UnlabeledSource, UserImageShard, with_check
from longtail.spark_jobs.cluster.connect import default_parallelism
from longtail.spark_jobs.cluster.visibility import check_seen

ROWS_PER_BATCH = 4096
TASKS_PER_SLOT = 8


def source_images(spark: SparkSession, source: Source | UnlabeledSource, shards: Sequence[Shard]) -> DataFrame:
    """The images of a source (SOURCE_SCHEMA); each shard is read and verified by one task."""

    def read(shard: Shard) -> Iterator[pa.RecordBatch]:
        yield from _in_parts(source.read(shard))

    return _rows_of_shards(spark, shards, read, SOURCE_SCHEMA)


def source_fingerprints(spark: SparkSession, source: Source | UnlabeledSource, located: Located) -> DataFrame:
    """The fingerprints (FINGERPRINT_SCHEMA) of a source's images, which are read and verified as by source_images."""
    shape, encoding = located.image_shape, located.encoding

    def read(shard: Shard) -> Iterator[pa.RecordBatch]:
        if encoding == RAW or not isinstance(shard, UserImageShard):
            yield from (fingerprints(rows, shape, encoding) for rows in _in_parts(source.read(shard)))
            return
        examined = Examination(shape[0])
        yield fingerprints(source.read(with_check(shard, examined)), shape, encoding, examined=examined)

    return _rows_of_shards(spark, located.shards, read, FINGERPRINT_SCHEMA)


def _in_parts(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A shard may be a file of gigabytes: it is sent to the JVM in parts."""
    return (rows.slice(first, ROWS_PER_BATCH) for first in range(0, max(rows.num_rows, 1), ROWS_PER_BATCH))


def _rows_of_shards(
    spark: SparkSession, shards: Sequence[Shard], read: Callable[[Shard], Iterator[pa.RecordBatch]], schema: pa.Schema
) -> DataFrame:
    """What ``read`` gives for the shards."""

    def read_all(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch.column(0).to_pylist():
                yield from read(shards[index])

    num_tasks = min(len(shards), TASKS_PER_SLOT * default_parallelism(spark))
    numbers = spark.range(0, len(shards), 1, numPartitions=num_tasks)
    # Without the schema's refusal of nulls: Spark's columns of another source have none either.
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return numbers.mapInArrow(read_all, from_arrow_schema(nullable))


def as_irrelevant(rows: DataFrame) -> DataFrame:
    """Training images of another data set, or their fingerprints, as unlabeled images of none of the classes."""
    return rows.where(F.col(SPLIT) == TRAIN).withColumns(
        {ID: F.col(ID) + IRRELEVANT_FIRST_ID, LABEL: F.lit(NO_CLASS), SPLIT: F.lit(UNLABELED)}
    )


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, computed once however often it is read."""
    frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield frame
    finally:
        frame.unpersist()


def read_prepared(spark: SparkSession, set_dir: Location) -> DataFrame:
    """The rows of a prepared set (PREPARED_SCHEMA). Raises UserError if hosts of a cluster do not see it."""
    check_seen(spark, set_dir, option="--data_dir")
    return read_parquet_or_delta(spark, set_dir / ROWS_DIRECTORY)


def read_parquet_or_delta(spark: SparkSession, table: Location, schema: StructType | None = None) -> DataFrame:
    """A Parquet table, or the newest version of a Delta table.

    schema: that of a Parquet table, where it is known; else a Spark job looks it up

    Raises UserError for columns that Spark does not tell apart.
    """
    if not is_delta(table):
        reader = spark.read if schema is None else spark.read.schema(schema)
        try:
            return reader.parquet(pattern_of(table))
        except AnalysisException as error:
            if error.getCondition() != "COLUMN_ALREADY_EXISTS":
                raise
            raise UserError(
                f"{table} has columns whose names differ in upper and lower case alone: rename one of them, or set "
                f"spark.sql.caseSensitive to true"
            ) from None
    return spark.read.option("basePath", spark_uri(table)).parquet(*map(pattern_of, delta_files(table)))


def pattern_of(place: Location) -> str:
    """The place for spark.read, which takes patterns: characters that mean something in these mean themselves."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", spark_uri(place))
