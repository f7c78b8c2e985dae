"""Small Spark DataFrames for tests."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def frame_of(spark: SparkSession, rows: Sequence[tuple[Any, ...]], ddl: str) -> DataFrame:
    """A DataFrame of rows, by way of an Arrow table: from Python rows Spark would need a Python worker."""
    schema = to_arrow_schema(StructType.fromDDL(ddl))
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
    return spark.createDataFrame(table, ddl)


def split_counts(rows: DataFrame) -> dict[tuple[str, int], int]:
    """Images of a prepared set by split and class, in the unlabeled part by the withheld label; -1 for none."""
    by_class = rows.groupBy("split", F.coalesce("label", "hidden_label", F.lit(-1))).count()
    return {(split, label): count for split, label, count in by_class.collect()}
