"""How the label statistics of `stats` grow with the table: time and memory at 10, 30 and 100 million rows.

    python benchmarks/statistics_scaling.py [--millions 10,30,100] [--classes 8142] [--directory DIR]

Generates label tables with a long tail (class floor(C u^3) of a uniform u), writes them as Parquet, and runs on
local[2] with the driver memory that the jobs set (2 GB):

- stats: spark_jobs.stats.stats_of_labels, all that `longtail stats --labels` does: class counts, skew of the
  partitions, tables, JSON and plot;
- groupBy: Spark's plain count by label, which is the least that a pass can take;
- pandas: read_parquet and value_counts, which hold the column in memory.

Each is run once unmeasured on the smallest table. Prints seconds, rows/s, the ratio to the smallest table's time for
each row (1.0: time grows linearly; below: it grows slower), the ratio to each peer, and the highest memory of the JVM
(VmHWM). Takes about 3 minutes and 0.5 GB of disk.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.prepare import StatsOptions
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.stats import stats_of_labels

LABEL = "label"
ROWS_PER_FILE = 5_000_000


def write_table(spark: SparkSession, directory: Path, *, num_rows: int, num_classes: int) -> Path:
    table = directory / f"labels-{num_rows}"
    label = f"cast(floor({num_classes} * pow(rand(7), 3)) as int)"
    num_files = -(-num_rows // ROWS_PER_FILE)
    rows = spark.range(0, num_rows, 1, num_files).selectExpr("id", f"{label} as {LABEL}")
    rows.write.parquet(str(table))
    return table


def stats(spark: SparkSession, table: Path) -> int:
    options = resolve_options(StatsOptions, {"labels": table, "data_dir": table.parent})
    with redirect_stdout(StringIO()):
        output_dir = stats_of_labels(spark, options, table=table)
    return int(pd.read_parquet(output_dir / "class_counts.parquet")["count"].sum())


def group_by(spark: SparkSession, table: Path) -> int:
    return sum(count for _, count in spark.read.parquet(str(table)).groupBy(LABEL).count().collect())


def pandas(spark: SparkSession, table: Path) -> int:
    return int(pd.read_parquet(table, columns=[LABEL])[LABEL].value_counts().sum())


WAYS: dict[str, Callable[[SparkSession, Path], int]] = {"stats": stats, "groupBy": group_by, "pandas": pandas}


def highest_memory_mib(spark: SparkSession) -> float:
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", default="10,30,100")
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    sizes = sorted(int(float(millions) * 1_000_000) for millions in arguments.millions.split(","))
    spark = spark_session("statistics_scaling", SparkJobOptions(master="local[2]"))
    print(f"{arguments.classes} classes, local[2], {spark.conf.get('spark.driver.memory')} of driver memory")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        tables = {
            size: write_table(spark, Path(temporary), num_rows=size, num_classes=arguments.classes) for size in sizes
        }
        for run in WAYS.values():
            run(spark, tables[sizes[0]])
        per_row: dict[str, float] = {}
        for size, table in tables.items():
            seconds = {}
            for name, run in WAYS.items():
                started = time.monotonic()
                assert run(spark, table) == size
                seconds[name] = time.monotonic() - started
                per_row.setdefault(name, seconds[name] / size)
            for name, taken in seconds.items():
                growth = taken / size / per_row[name]
                print(
                    f"{size / 1e6:5g} M rows  {name:<8} {taken:7.2f} s  {size / taken / 1e6:6.2f} M rows/s  time for a "
                    f"row {growth:4.2f} x  stats takes {seconds['stats'] / taken:5.2f} x"
                )
            print(f"{size / 1e6:5g} M rows  highest memory of the JVM so far {highest_memory_mib(spark):.0f} MiB")
    spark.stop()


if __name__ == "__main__":
    main()
