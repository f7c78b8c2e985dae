"""The simulation of the theorems as a table: first one row per block of repetitions, then one per grid point."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from longtail.conf.theory_grid import Point
from longtail.training.theory.evaluation import block_sizes, simulate_block

POINT, BLOCK, REPETITIONS = "point", "block", "repetitions"
HITS, TOTAL, TOTAL_SQUARES, LARGEST = "hits", "total", "total_squares", "largest"
BLOCK_SCHEMA = pa.schema([(POINT, pa.int64()), (BLOCK, pa.int64()), (REPETITIONS, pa.int64())])
BLOCK_SUMS_SCHEMA = pa.schema(
    [*BLOCK_SCHEMA, (HITS, pa.int64()), *((name, pa.float64()) for name in (TOTAL, TOTAL_SQUARES, LARGEST))]
)


def point_blocks(spark: SparkSession, repetitions: Sequence[int], *, block_repetitions: int) -> DataFrame:
    """BLOCK_SCHEMA: the blocks of all grid points, of which point i is repeated repetitions[i] times."""
    blocks = [
        {POINT: point, BLOCK: block, REPETITIONS: size}
        for point, of_point in enumerate(repetitions)
        for block, size in enumerate(block_sizes(of_point, block_repetitions))
    ]
    return spark.createDataFrame(pa.Table.from_pylist(blocks, schema=BLOCK_SCHEMA))


def with_block_sums(blocks: DataFrame, points: Sequence[Point], *, seed: int) -> DataFrame:
    """BLOCK_SUMS_SCHEMA: each block simulated, by whichever task has it."""

    def simulate(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [
                row
                | asdict(simulate_block(points[row[POINT]], seed=seed, block=row[BLOCK], repetitions=row[REPETITIONS]))
                for row in batch.to_pylist()
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=BLOCK_SUMS_SCHEMA)

    return blocks.mapInArrow(simulate, from_arrow_schema(BLOCK_SUMS_SCHEMA))


def with_point_sums(block_sums: DataFrame) -> DataFrame:
    """point, repetitions, hits, total, total_squares, largest: summed over each point's blocks, ordered by point."""
    return (
        block_sums.groupBy(POINT)
        .agg(
            F.sum(REPETITIONS).alias(REPETITIONS),
            F.sum(HITS).alias(HITS),
            _sum_in_order(TOTAL).alias(TOTAL),
            _sum_in_order(TOTAL_SQUARES).alias(TOTAL_SQUARES),
            F.max(LARGEST).alias(LARGEST),
        )
        .orderBy(POINT)
    )


def _sum_in_order(name: str) -> Column:
    # Floating-point sums depend on their order, and Spark's own on which task ends first: this one goes by block.
    blocks = F.array_sort(F.collect_list(F.struct(BLOCK, name)))
    return F.aggregate(blocks, F.lit(0.0), lambda sum_so_far, block: sum_so_far + block[name])
