"""Images that arrive, as a streaming DataFrame: files below a directory, or the rows of Parquet files in one."""

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, spark_uri
from longtail.data.contract import ARRIVED_AT, FILE
from longtail.data.image_files import SUFFIXES
from longtail.data.storage import is_table
from longtail.spark_jobs.frames.image_columns import ImageColumn, column, image_column

FILES_AT_ONCE = 1000
ANY_AGE = "100000d"
"""Spark would pass over what is a week older than the newest file: copies keep their time, and clocks are wrong."""
_CONTENT = "content"


def arriving_images(spark: SparkSession, path: Location, *, image: str) -> tuple[DataFrame, ImageColumn, list[str]]:
    """The stream, the column of its images, and the columns that a result keeps, ARRIVED_AT the last.

    image: the column of the images in a table

    Raises UserError if the column is missing or holds no images.
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
    return stream, ImageColumn(_CONTENT), [FILE, ARRIVED_AT]


def _rows(spark: SparkSession, path: Location, image: str) -> tuple[DataFrame, ImageColumn, list[str]]:
    if isinstance(path, Path) and path.is_file():
        raise UserError(f"--stream follows a directory, and {path} is a file: name its directory")
    known = spark.read.parquet(spark_uri(path))
    images = image_column(known, image)
    if ARRIVED_AT in known.columns:
        raise UserError(f"{path} has a column {ARRIVED_AT}, which --stream adds: rename or drop it")
    rows = (
        spark.readStream.schema(known.schema)
        .option("recursiveFileLookup", "true")
        .option("maxFilesPerTrigger", FILES_AT_ONCE)
        .option("maxFileAge", ANY_AGE)
        .parquet(spark_uri(path))
    )
    arrived = F.col("_metadata.file_modification_time").alias(ARRIVED_AT)
    stream = rows.select(*map(column, known.columns), arrived)
    return stream, images, [*(name for name in known.columns if name != images.name), ARRIVED_AT]
