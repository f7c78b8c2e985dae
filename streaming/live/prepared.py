"""A query that is planned once and run on one input after another.

Spark plans a query anew for every DataFrame, which for a small batch takes many
times as long as to run it. Here the inputs are ORC files of fixed names: a
DataFrame over them is made and planned once, and reads at each action what lies
there then. The executors must see the directory.

Why ORC: the JVM reads it by itself, while every input that goes through a Python
worker costs more than all else in a small query. And a plan knows how long its file was
when it was made, but reads each stripe whole that begins within that length: a file of
one stripe is read whole, however long it is now.

What a plan exchanges between tasks, by shuffle or broadcast, Spark keeps from one
action to the next: it would be an old input's. A query whose plan has an exchange is
therefore planned anew each time.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import orc
from pyspark.sql import DataFrame, SparkSession

STRIPE_BYTES = 1 << 40
"""More than any input has: it is one stripe."""
_SQL_TYPES = {pa.string(): "STRING", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}


class PreparedQuery:
    """DataFrames -> DataFrame, for tables of always the same schemas."""

    def __init__(
        self,
        spark: SparkSession,
        query: Callable[..., DataFrame],
        inputs: Mapping[str, pa.Schema],
        *,
        directory: Path,
    ) -> None:
        """query: takes a DataFrame for each of the inputs, by name; directory: of its own, for their files"""
        directory.mkdir(parents=True, exist_ok=True)
        self._schemas = dict(inputs)
        self._files = {name: directory / f"{name}.orc" for name in inputs}
        frames = {name: self._frame(spark, name) for name in inputs}
        self._plan = partial(query, **frames)
        self._result = self._plan()
        self.keeps_exchanges = "Exchange" in self._result._jdf.queryExecution().executedPlan().toString()

    def __call__(self, **inputs: Sequence[pa.Table]) -> pa.Table:
        """The result for these inputs, each in pieces."""
        assert inputs.keys() == self._schemas.keys()
        for name, pieces in inputs.items():
            schema = self._schemas[name]
            _write(
                self._files[name], pa.concat_tables([schema.empty_table(), *(_of_schema(p, schema) for p in pieces)])
            )
        result = self._plan() if self.keeps_exchanges else self._result
        return result.toArrow()

    def _frame(self, spark: SparkSession, name: str) -> DataFrame:
        schema, file = self._schemas[name], self._files[name]
        _write(file, schema.empty_table())
        ddl = ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in schema)
        # In one partition, so that nothing is exchanged; of this machine, whatever file system is Spark's default.
        return spark.read.schema(ddl).orc(f"file://{file.absolute()}").coalesce(1)


def _of_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return table.select(schema.names).cast(schema)


def _write(file: Path, table: pa.Table) -> None:
    orc.write_table(table, str(file), stripe_size=STRIPE_BYTES, compression="uncompressed")
