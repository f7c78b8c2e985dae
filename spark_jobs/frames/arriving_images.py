"""Images that arrive, as a streaming DataFrame: files below a directory, the rows of Parquet files in one, or the
messages of a Kafka topic."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, spark_uri
from longtail.data.contract import ARRIVED_AT, FILE
from longtail.data.delta import delta_connector, is_delta
from longtail.data.image_files import SUFFIXES
from longtail.data.storage import is_table
from longtail.spark_jobs.frames.image_columns import ImageColumn, column, image_column

FILES_AT_ONCE = 1000
"""Files, or messages, of a micro-batch at most."""
ANY_AGE = "100000d"
"""Spark would pass over what is a week older than the newest file: copies keep their time, and clocks are wrong."""
KEY, PARTITION, OFFSET = "key", "partition", "offset"
_CONTENT = "content"


@dataclass(frozen=True)
class ArrivingImages:
    """rows: a streaming DataFrame; images: the column of its images; kept: what a result keeps, ARRIVED_AT the last

    may_be_many: whether a micro-batch may have more than FILES_AT_ONCE rows
    """

    rows: DataFrame
    images: ImageColumn
    kept: list[str]
    may_be_many: bool = False


def arriving_images(spark: SparkSession, path: Location, *, image: str) -> ArrivingImages:
    """The images of a directory in which files of images, or Parquet files with such, appear.

    image: the column of the images in a table

    Raises UserError if the column is missing or holds no images, or if the directory is a Delta table.
    """
    if is_table(path):
        return _rows(spark, path, image)
    # Of upper and lower case. Files of other kinds are not read, which might be large.
    endings = ",".join(sorted("".join(f"[{c}{c.upper()}]" for c in suffix[1:]) for suffix in SUFFIXES))
    files = (
        spark.readStream.format("binaryFile")
        .schema("path string, modificationTime timestamp, length bigint, content binary")
        .option("recursiveFileLookup", "true")
        .option("pathGlobFilter", f"*.{{{endings}}}")
        .option("maxFilesPerTrigger", FILES_AT_ONCE)
        .option("maxFileAge", ANY_AGE)
        .load(spark_uri(path))
    )
    directory = str(path).rstrip("/") + "/"
    begin = F.locate(directory, F.col("path")) + len(directory)
    name = F.col("path").substr(begin, F.length("path"))
    stream = files.select(name.alias(FILE), F.col(_CONTENT), F.col("modificationTime").alias(ARRIVED_AT))
    return ArrivingImages(stream, ImageColumn(_CONTENT), [FILE, ARRIVED_AT])


def _rows(spark: SparkSession, path: Location, image: str) -> ArrivingImages:
    if isinstance(path, Path) and path.is_file():
        raise UserError(f"--stream follows a directory, and {path} is a file: name its directory")
    known = _table(spark, path)
    images = image_column(known, image)
    if ARRIVED_AT in known.columns:
        raise UserError(f"{path} has a column {ARRIVED_AT}, which --stream adds: rename or drop it")
    reader = spark.readStream.option("maxFilesPerTrigger", FILES_AT_ONCE)
    if is_delta(path):
        # Of a micro-batch, also if it is processed again. Rows that are changed or deleted later stay as predicted.
        arrived = F.current_timestamp()
        rows = reader.format("delta").option("skipChangeCommits", "true").load(spark_uri(path))
    else:
        arrived = F.col("_metadata.file_modification_time")
        files = reader.schema(known.schema).option("recursiveFileLookup", "true").option("maxFileAge", ANY_AGE)
        rows = files.parquet(spark_uri(path))
    stream = rows.select(*map(column, known.columns), arrived.alias(ARRIVED_AT))
    kept = [*(name for name in known.columns if name != images.name), ARRIVED_AT]
    return ArrivingImages(stream, images, kept, may_be_many=True)


def _table(spark: SparkSession, path: Location) -> DataFrame:
    """The rows that are there. Raises UserError if Delta's connector is needed and the running session lacks it."""
    if not is_delta(path):
        return spark.read.parquet(spark_uri(path))
    # It asks for an extension and a catalog of its own, which only its SQL commands need.
    spark.conf.set("spark.databricks.delta.requiredSparkConfsCheck.enabled", "false")
    try:
        return spark.read.format("delta").load(spark_uri(path))
    except AnalysisException as error:
        if error.getCondition() != "DATA_SOURCE_NOT_FOUND":
            raise
        needed = delta_connector(path, spark.version)
        raise UserError(
            f"the Spark session lacks the connector for the Delta table {path}: start it with "
            f"spark.jars.packages={needed}"
        ) from None


def arriving_messages(spark: SparkSession, topic: str, kafka: Mapping[str, str]) -> ArrivingImages:
    """The images of a topic from its beginning: a message's value is an image's file, its key the user's, as text.

    kafka: the options of Spark's reader that say where the topic is, and for whom
    """
    messages = (
        spark.readStream.format("kafka")
        .options(**kafka)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", FILES_AT_ONCE)
        .load()
    )
    # A key may have any bytes, and a column of text only those of UTF-8.
    key = F.make_valid_utf8(F.col(KEY).cast("string")).alias(KEY)
    stream = messages.select(
        key, PARTITION, OFFSET, F.col("value").alias(_CONTENT), F.col("timestamp").alias(ARRIVED_AT)
    )
    return ArrivingImages(stream, ImageColumn(_CONTENT), [KEY, PARTITION, OFFSET, ARRIVED_AT])
