"""Writes the rows of DataFrames to directories that are not finished yet."""

from pyspark.sql import DataFrame

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, spark_uri
from longtail.spark_jobs.cluster.cancellation import write_to_its_end
from longtail.spark_jobs.cluster.failures import message_with_location


def write_parquet(rows: DataFrame, directory: Location) -> None:
    """Add the rows to a directory as Parquet files. If that fails, no task of it writes any more.

    Raises UserError, with the directory, for an error of the operating system that names no file.
    """
    writer = rows.write.mode("append")
    try:
        write_to_its_end(rows.sparkSession, lambda: writer.parquet(spark_uri(directory)))
    except Exception as error:
        if message := message_with_location(error, directory):
            raise UserError(message) from error
        raise
