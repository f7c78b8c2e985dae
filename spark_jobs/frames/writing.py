"""Writes the rows of DataFrames to directories that are not finished yet."""

from pyspark.sql import DataFrame

from longtail.conf.base.locations import Location, spark_uri
from longtail.spark_jobs.cluster.cancellation import tasks_ended


def write_parquet(rows: DataFrame, directory: Location) -> None:
    """Add the rows to a directory as Parquet files. If that fails, no task of it writes any more."""
    with tasks_ended(rows.sparkSession):
        rows.write.mode("append").parquet(spark_uri(directory))
