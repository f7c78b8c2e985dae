"""Check the three theorems by Monte-Carlo simulation over a grid of parameters.

    longtail theory
    spark-submit spark_jobs/theory.py --grid theorems

Each block of repetitions of each grid point is one row of a Spark table, simulated
from a seed of its own, so the result does not depend on the partitioning. Prints a
table per sweep and the conclusions, and writes OUTPUT_DIR/NAME/: points.parquet and
points.json (one row per point: the measured value, its interval, the bound, and
whether the bound holds) and the plots as PNG. NAME changes with every parameter; the
same command again replaces its result as a whole.
"""

import sys
from collections.abc import Sequence

from longtail.conf.arguments import parse_options
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.options.studies import TheoryOptions
from longtail.conf.theory_grid import read_grid
from longtail.spark_jobs.cli import run_job
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.display.console import console
from longtail.spark_jobs.display.theory import sweep_table
from longtail.spark_jobs.studies.theory import evaluate_grid, write_result
from longtail.training.theory.statements import statements


def main(argv: Sequence[str]) -> None:
    options = parse_options(TheoryOptions, argv, prog="longtail theory")
    grid = read_grid(options.grid)
    check_can_be_written(options.output_dir, option="--output_dir")
    rows = evaluate_grid(spark_session("theory", options), options, grid)
    result_dir = write_result(rows, options, grid)
    terminal = console()
    for sweep in grid.sweeps:
        terminal.print(sweep_table(sweep, [row for row in rows if row["sweep"] == sweep.name]))
    print(*statements(rows, confidence=options.confidence), sep="\n")
    print(f"theory: {result_dir}")


if __name__ == "__main__":
    run_job("theory", main, sys.argv[1:])
