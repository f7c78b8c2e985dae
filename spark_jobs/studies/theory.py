"""The Monte-Carlo check of the three theorems: a grid simulated on Spark, and the directory of its result."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import new_table_directory
from longtail.conf.options.base import fingerprint
from longtail.conf.options.studies import TheoryOptions
from longtail.conf.theory_grid import TheoryGrid
from longtail.spark_jobs.cluster.session import described
from longtail.spark_jobs.display.theory_plots import PLOTS
from longtail.spark_jobs.frames.theory_simulation import point_blocks, with_block_sums, with_point_sums
from longtail.training.theory.blocks import BlockSums
from longtail.training.theory.evaluation import INTERVAL, RESULT_SCHEMA, Row, judge
from longtail.training.theory.statements import statements

PARTITIONS_PER_SLOT = 4
"""Blocks of different theorems take different times: small tasks keep all slots busy to the end."""


def evaluate_grid(
    spark: SparkSession, options: TheoryOptions, grid: TheoryGrid, *, num_partitions: int | None = None
) -> list[Row]:
    """Simulate all points of the grid; rows of RESULT_SCHEMA, in the grid's order."""
    sweeps = [(sweep, point) for sweep in grid.sweeps for point in sweep.points()]
    points = [point for _, point in sweeps]
    repetitions = [options.repetitions or sweep.repetitions for sweep, _ in sweeps]
    blocks = point_blocks(spark, repetitions, block_repetitions=options.block_repetitions)
    spread = blocks.repartition(num_partitions or PARTITIONS_PER_SLOT * spark.sparkContext.defaultParallelism)
    with described(spark, f"theory: {len(points)} grid points"):
        sums = with_point_sums(with_block_sums(spread, points, seed=options.seed)).collect()
    assert [row.repetitions for row in sums] == repetitions, "every block of every point is in the sums"
    return [
        {
            "sweep": sweep.name,
            **judge(
                point,
                repetitions=row.repetitions,
                sums=BlockSums(hits=row.hits, total=row.total, total_squares=row.total_squares, largest=row.largest),
                confidence=options.confidence,
            ),
        }
        for (sweep, point), row in zip(sweeps, sums, strict=True)
    ]


def write_result(rows: Sequence[Row], options: TheoryOptions, grid: TheoryGrid) -> Location:
    """Write the directory of the result atomically; return it. Raises UserError if it cannot be written."""
    parameters = _parameters(options, grid)
    result_dir = options.output_dir.absolute() / f"theory-seed{options.seed}-{fingerprint(parameters)}"
    summary = {
        **parameters,
        "interval": INTERVAL,
        "statements": statements(rows, confidence=options.confidence),
        "points": list(rows),
    }
    try:
        with new_table_directory(result_dir) as directory:
            table = pa.Table.from_pylist(list(rows), schema=RESULT_SCHEMA)
            write_atomically(directory / "points.parquet", partial(pq.write_table, table))
            write_json_atomically(directory / "points.json", summary)
            for name, plot in PLOTS.items():
                sweeps = {sweep.name for sweep in grid.sweeps if sweep.plot == name}
                if sweeps:
                    figure = plot([row for row in rows if row["sweep"] in sweeps])
                    write_atomically(directory / f"{name}.png", partial(figure.savefig, dpi=150, format="png"))
    except OSError as error:
        raise UserError(f"cannot write {result_dir}: {error.strerror or error}; choose another --output_dir") from None
    return result_dir


def _parameters(options: TheoryOptions, grid: TheoryGrid) -> dict[str, Any]:
    """All parameters of the result."""
    chosen = options.model_dump(include={"repetitions", "block_repetitions", "confidence", "seed"})
    return {**chosen, "grid": grid.model_dump()}
