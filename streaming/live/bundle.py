"""Combines several tables into one DataFrame, so that a single Spark action computes all of them.

    unbundled(bundled(epochs=a, steps=b).toArrow(), {"epochs": schema_a, "steps": schema_b})

For small tables the overhead of the action dominates. Columns with the same name in several tables share one column of
the bundle, so they must have the same type.
"""

from collections.abc import Mapping
from functools import partial, reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_TABLE = "_table"


def bundled(**tables: DataFrame) -> DataFrame:
    """The rows of all tables, each marked with the name of its table."""
    tagged = [table.withColumn(_TABLE, F.lit(name)) for name, table in tables.items()]
    return reduce(partial(DataFrame.unionByName, allowMissingColumns=True), tagged)


def unbundled(bundle: pa.Table, schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Table]:
    """The tables of a bundle by name, with these schemas."""
    return {
        name: bundle.filter(pc.equal(bundle[_TABLE], name)).select(schema.names).cast(schema)
        for name, schema in schemas.items()
    }
