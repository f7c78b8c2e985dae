"""Queries that are planned once and executed on one input after another.

Spark plans a query anew for every DataFrame, which for a small batch takes many times as long as its execution. Here
the inputs are ORC files with fixed names: a DataFrame over them is created and planned once, and each action reads
their current content. The executors must see the directory.

Why ORC: the JVM reads it natively, while every input that passes through a Python worker costs more than everything
else in a small query. A plan remembers the length that its file had when it was planned, but reads every stripe that
begins within that length completely: a file of one stripe is read to its end, however long it is now.

Spark keeps the results of exchanges between tasks (shuffles and broadcasts) from one action of a plan to the next,
which would be those of an old input. Therefore a query whose plan has an exchange is planned anew for each call.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import orc
from pyspark.sql import DataFrame, SparkSession

STRIPE_BYTES = 1 << 40
"""More than any input has, so that each file is one stripe."""
_SQL_TYPES = {pa.string(): "STRING", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}


class PreparedQuery:
    """A query on tables whose schemas are fixed.

    query: DataFrames, by the names of the inputs -> DataFrame
    inputs: the schema of each input
    directory: for the files of the inputs; nothing else may be in it
    """

    def __init__(
        self,
        spark: SparkSession,
        query: Callable[..., DataFrame],
        inputs: Mapping[str, pa.Schema],
        *,
        directory: Path,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._schemas = dict(inputs)
        self._files = {name: directory / f"{name}.orc" for name in inputs}
        frames = {name: self._frame(spark, name) for name in inputs}
        self._plan = partial(query, **frames)
        self._result = self._plan()
        self.keeps_exchanges = _has_exchange(self._result)

    def __call__(self, **inputs: Sequence[pa.Table]) -> pa.Table:
        """The result for these inputs, each given as a sequence of tables to concatenate."""
        assert inputs.keys() == self._schemas.keys()
        for name, parts in inputs.items():
            schema = self._schemas[name]
            _write(
                self._files[name], pa.concat_tables([schema.empty_table(), *(_cast(part, schema) for part in parts)])
            )
        result = self._plan() if self.keeps_exchanges else self._result
        return result.toArrow()

    def run_on_nothing(self) -> None:
        """Run the query on empty inputs."""
        self(**{name: [] for name in self._schemas})

    def _frame(self, spark: SparkSession, name: str) -> DataFrame:
        schema, file = self._schemas[name], self._files[name]
        _write(file, schema.empty_table())
        ddl = ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in schema)
        # One partition, so that nothing is exchanged; on this machine, whatever Spark's default file system is.
        return spark.read.schema(ddl).orc(f"file://{file.absolute()}").coalesce(1)


def _has_exchange(frame: DataFrame) -> bool:
    jvm_frame: Any = frame._jdf  # Only the JVM's object has the physical plan; py4j's objects have no types.
    return "Exchange" in jvm_frame.queryExecution().executedPlan().toString()


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return table.select(schema.names).cast(schema)


def _write(file: Path, table: pa.Table) -> None:
    # Not by ORC's own writer, which ends the process if the disk is full.
    content = pa.BufferOutputStream()
    orc.write_table(table, content, stripe_size=STRIPE_BYTES, compression="uncompressed")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as target:
        target.write(content.getvalue())
