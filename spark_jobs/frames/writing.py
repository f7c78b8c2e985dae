"""Writes the rows of DataFrames to directories that are not finished yet."""

from pyspark.sql import DataFrame

from longtail.conf.base.locations import Location, spark_uri
from longtail.spark_jobs.cluster.cancellation import write_to_its_end


def write_parquet(rows: DataFrame, directory: Location) -> None:
    """Add the rows to a directory as Parquet files. If that fails, no task of it writes any more."""
    writer = rows.write.mode("append")
    write_to_its_end(rows.sparkSession, lambda: writer.parquet(spark_uri(directory)))
