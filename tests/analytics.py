"""Whether the tables that the live query keeps are those that all events give at once, in each form that it keeps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from longtail.streaming.alerts.rules import AlertRules
from longtail.streaming.alerts.rules_file import read_alert_rules
from longtail.streaming.events.columns import EVENT_COLUMNS
from longtail.streaming.events.files import ARCHIVE_DIRECTORY
from longtail.streaming.events.schema import Event
from longtail.streaming.tables.delta import DELTA_DIRECTORY
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES
from tests.batch_tables import tables_of
from tests.plain_tables import plain_tables


def lines_in(spark: SparkSession, events_dir: Path) -> DataFrame:
    """All events of a directory as lines, those of columns and archives too; read by Spark's own readers."""
    lines = spark.read.text(str(events_dir), pathGlobFilter="*.jsonl")
    for directory in (events_dir, events_dir / ARCHIVE_DIRECTORY):
        if list(directory.glob("*.parquet")):
            rows = spark.read.option("mergeSchema", True).parquet(str(directory), pathGlobFilter="*.parquet")
            json = F.to_json(F.struct(*(name for name in rows.columns if name in EVENT_COLUMNS.names)))
            line = F.col("line").cast("string") if "line" in rows.columns else F.lit(None)
            lines = lines.union(rows.select(F.coalesce(line, json)))
    return lines.selectExpr("value", "'a file' AS source").coalesce(1)


def rounded(rows: list[dict[str, Any]], names: list[str]) -> list[tuple[Any, ...]]:
    """Rows in an order of their own; sums in another order differ in the last digits."""
    found = [tuple(float(f"{v:.9g}") if isinstance(v := row[name], float) else v for name in names) for row in rows]
    # NaN equals NaN here.
    found = [tuple("NaN" if isinstance(v, float) and math.isnan(v) else v for v in row) for row in found]
    return sorted(found, key=repr)


def assert_tables_are_those_of_all_lines(
    spark: SparkSession,
    tables_dir: Path,
    events_dir: Path,
    rules: AlertRules | None = None,
    without: tuple[str, ...] = (),
) -> None:
    """tables_dir: kept by the live query; events_dir: all that it was given. Silence is not judged here.

    without: columns that are not compared
    """
    whole = tables_of(lines_in(spark, events_dir), rules or read_alert_rules())
    for name, table in whole.items():
        names = [column for column in TABLES[name].names if column not in ("source", *without)]
        expected = rounded(table.to_pylist(), names)
        found = rounded(read_result_table(tables_dir, name, now=-math.inf).to_pylist(), names)
        assert found == expected, f"table {name}"


def delta_table(tables_dir: Path, name: str) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(str(tables_dir / DELTA_DIRECTORY / name))


def assert_delta_tables_have_the_same_rows(tables_dir: Path) -> None:
    """As the Parquet tables beside them."""
    for name, schema in TABLES.items():
        found = pa.table(delta_table(tables_dir, name).to_pyarrow_table()).to_pylist()
        expected = read_result_table(tables_dir, name, now=-math.inf).to_pylist()
        assert rounded(found, schema.names) == rounded(expected, schema.names), f"Delta table {name}"


def assert_tables_are_those_of_all_events(tables_dir: Path, events: Sequence[Event]) -> None:
    """As assert_tables_are_those_of_all_lines, by the oracle in plain Python: without derived tables and alerts."""
    for name, rows in plain_tables(events).items():
        columns = [column for column in TABLES[name].names if rows and column in rows[0]]
        found = read_result_table(tables_dir, name, now=0.0).to_pylist()
        assert rounded(found, columns) == rounded(rows, columns), name
