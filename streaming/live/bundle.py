"""Several tables as one DataFrame, so that a single action of Spark's gives all of them.

    unbundled(bundled(epochs=a, steps=b).toArrow(), {"epochs": schema_a, "steps": schema_b})

For a small table the action itself is what takes time. A column of the whole is a column of every table that has one of
its name, which must be of one type everywhere.
"""

from collections.abc import Mapping
from functools import partial, reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_TABLE = "_table"


def bundled(**tables: DataFrame) -> DataFrame:
    tagged = [table.withColumn(_TABLE, F.lit(name)) for name, table in tables.items()]
    return reduce(partial(DataFrame.unionByName, allowMissingColumns=True), tagged)


def unbundled(whole: pa.Table, schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Table]:
    return {
        name: whole.filter(pc.equal(whole[_TABLE], name)).select(schema.names).cast(schema)
        for name, schema in schemas.items()
    }
