"""The rows of a user's own queries (streaming/live/own_queries.py), beside the result tables. No Spark.

    TABLES_DIR/queries/NAME/table/rows.parquet, or rows-000000001.parquet ...     of table(events)
    TABLES_DIR/queries/NAME/alerts/rows-000000001.parquet ...                     of alerts(events)

Whoever reads the result table `alerts` finds the alerts there too, with the rule `query NAME`.
"""

import os
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.streaming.tables.schemas import TABLES

QUERIES_DIRECTORY = "queries"
TABLE, ALERTS = "table", "alerts"
OWN_RULE = "query "
"""Beginning of the rule of an own alert, followed by the name of the query."""
NO_RUN = ""
"""The run of an alert about no single run."""


def query_directory(tables_dir: Path, name: str, kind: str) -> Path:
    """The directory of the rows of TABLE or ALERTS of a query."""
    return tables_dir / QUERIES_DIRECTORY / name / kind


def read_query_rows(tables_dir: Path, name: str, kind: str = TABLE) -> pa.Table:
    """The rows of a user's query, NAME.py; a table without columns if there are none yet."""
    files = query_files(query_directory(tables_dir, name, kind))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else pa.table({})


def query_files(directory: Path) -> list[Path]:
    """The files of rows in a directory of a query, sorted."""
    names = [name for name in _entries(directory) if name.startswith("rows") and name.endswith(".parquet")]
    return [directory / name for name in names]


def as_alerts(name: str, rows: pa.Table) -> list[dict[str, Any]]:
    """Rows of alerts(events) of a query, with at least `run` and `message`, as rows of the table `alerts`.

    A row whose run is null or empty is about no single run (NO_RUN).
    """
    columns = [column for column in TABLES["alerts"].names if column in rows.column_names]
    return [
        {
            "run": _text(row["run"]),
            "split": _text(row.get("split")),
            "epoch": epoch if isinstance(epoch := row.get("epoch"), int) else None,
            "rule": f"{OWN_RULE}{name}",
            "message": _text(row["message"]),
        }
        for row in rows.select(columns).to_pylist()
    ]


def own_alerts(tables_dir: Path, runs: Collection[str]) -> pa.Table:
    """The alerts of all own queries about these runs, as rows of the table `alerts`."""
    parts = [_alerts_of(*state) for state in own_alerts_state(tables_dir)]
    found = pa.concat_tables([TABLES["alerts"].empty_table(), *parts])
    return found.filter(pc.is_in(found["run"], pa.array(runs, pa.string())))


def own_alerts_state(tables_dir: Path) -> list[tuple[str, int, tuple[Path, ...]]]:
    """Of each query with alerts its name, the time of their last change, and their files."""
    states = []
    for name in _entries(tables_dir / QUERIES_DIRECTORY):
        directory = query_directory(tables_dir, name, ALERTS)
        with suppress(OSError):
            states.append((name, directory.stat().st_mtime_ns, tuple(query_files(directory))))
    return states


@lru_cache(maxsize=100)
def _alerts_of(name: str, changed_at: int, files: tuple[Path, ...]) -> pa.Table:
    """changed_at: with it, a file that was replaced is read again"""
    rows: list[dict[str, Any]] = []
    for file in files:
        with suppress(OSError, pa.ArrowException, LookupError):  # removed since it was listed, or damaged
            rows += as_alerts(name, pq.read_table(file))
    return pa.Table.from_pylist(rows, schema=TABLES["alerts"])


def _entries(directory: Path) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))
    return []


def _text(value: object) -> str:
    return "" if value is None else str(value)
