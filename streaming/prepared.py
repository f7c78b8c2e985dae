"""A query that is planned once and run on one input after another.

Spark plans a query anew for every DataFrame, which for a small batch takes many
times as long as to run it. Here the inputs are Arrow files of fixed names: a
DataFrame over them is made and planned once, and reads at each action what lies
there then. The executors must see the directory.

What a plan exchanges between tasks, by shuffle or broadcast, Spark keeps from one
action to the next: it would be an old input's. A query whose plan has an exchange is
therefore planned anew each time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

ROWS_A_PIECE = 20_000
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
        self._files = {name: directory / f"{name}.arrow" for name in inputs}
        frames = {name: self._frame(spark, name) for name in inputs}
        self._plan = partial(query, **frames)
        self._result = self._plan()
        self.keeps_exchanges = "Exchange" in self._result._jdf.queryExecution().executedPlan().toString()

    def __call__(self, **inputs: Sequence[pa.Table]) -> pa.Table:
        """The result for these inputs, each in pieces."""
        assert inputs.keys() == self._schemas.keys()
        for name, pieces in inputs.items():
            schema = self._schemas[name]
            with pa.OSFile(str(self._files[name]), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
                for piece in pieces:
                    file.write_table(piece.select(schema.names).cast(schema), max_chunksize=ROWS_A_PIECE)
        result = self._plan() if self.keeps_exchanges else self._result
        return result.toArrow()

    def _frame(self, spark: SparkSession, name: str) -> DataFrame:
        ddl = ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in self._schemas[name])
        return spark.range(0, 1, numPartitions=1).mapInArrow(partial(_read, file=self._files[name]), ddl)


def _read(batches: Iterator[pa.RecordBatch], *, file: Path) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        pass
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
