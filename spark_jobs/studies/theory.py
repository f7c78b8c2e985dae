"""The Monte-Carlo check of the three theorems: a grid simulated on Spark, and the directory of its result."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory
from longtail.conf.options.base import fingerprint
from longtail.conf.options.studies import TheoryOptions
from longtail.conf.theory_grid import TheoryGrid
from longtail.spark_jobs.display.theory_plots import PLOTS
from longtail.spark_jobs.frames.theory_simulation import point_blocks, with_block_sums, with_point_sums
from longtail.training.theory.blocks import BlockSums
from longtail.training.theory.evaluation import INTERVAL, RESULT_SCHEMA, Row, judge
from longtail.training.theory.statements import statements

PARTITIONS_PER_SLOT = 4
"""Blocks of different theorems cost differently: small tasks keep all slots busy to the end."""


def evaluate_grid(
    spark: SparkSession, options: TheoryOptions, grid: TheoryGrid, *, num_partitions: int | None = None
) -> list[Row]:
    """The rows of RESULT_SCHEMA, in the grid's order."""
    asked = [
        (sweep, point, options.repetitions or sweep.repetitions) for sweep in grid.sweeps for point in sweep.points()
    ]
    points = [point for _, point, _ in asked]
    blocks = point_blocks(spark, [n for _, _, n in asked], block_repetitions=options.block_repetitions)
    spread = blocks.repartition(num_partitions or PARTITIONS_PER_SLOT * spark.sparkContext.defaultParallelism)
    spark.sparkContext.setJobDescription(f"theory: {len(points)} grid points")
    sums = with_point_sums(with_block_sums(spread, points, seed=options.seed)).collect()
    spark.sparkContext.setJobDescription(None)
    assert [row.repetitions for row in sums] == [n for _, _, n in asked], "every block of every point is in the sums"
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
        for (sweep, point, _), row in zip(asked, sums, strict=True)
    ]


def write_result(rows: Sequence[Row], options: TheoryOptions, grid: TheoryGrid) -> Path:
    """The directory of the result, written as a whole. Raises UserError if it cannot be written."""
    parameters = _parameters(options, grid)
    result_dir = options.output_dir.absolute() / f"theory-seed{options.seed}-{fingerprint(parameters)}"
    summary = {
        **parameters,
        "interval": INTERVAL,
        "statements": statements(rows, confidence=options.confidence),
        "points": list(rows),
    }
    try:
        with new_directory(result_dir, replace=True) as directory:
            pq.write_table(pa.Table.from_pylist(list(rows), schema=RESULT_SCHEMA), directory / "points.parquet")
            (directory / "points.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            for name, plot in PLOTS.items():
                sweeps = {sweep.name for sweep in grid.sweeps if sweep.plot == name}
                if sweeps:
                    plot([row for row in rows if row["sweep"] in sweeps]).savefig(directory / f"{name}.png", dpi=150)
    except OSError as error:
        raise UserError(
            f"cannot write {result_dir}: {error.strerror}; free it or choose another --output_dir"
        ) from None
    return result_dir


def _parameters(options: TheoryOptions, grid: TheoryGrid) -> dict[str, Any]:
    """What decides the content of the result."""
    chosen = options.model_dump(include={"repetitions", "block_repetitions", "confidence", "seed"})
    return {**chosen, "grid": grid.model_dump()}
