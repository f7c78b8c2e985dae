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

from longtail.streaming.tables.deletions import is_of_present_run, read_deletion_times
from longtail.streaming.tables.schemas import TABLES

QUERIES_DIRECTORY = "queries"
TABLE, ALERTS = "table", "alerts"
OWN_RULE = "query "
"""Beginning of the rule of an own alert, followed by the name of the query."""
FOUND_AT = b"longtail_found_at"
"""Key in the metadata of a file of alerts: when they were found."""
_FOUND_AT = "found_at"
_FOUND_ALERTS = TABLES["alerts"].append(pa.field(_FOUND_AT, pa.float64()))
NO_RUN = ""
"""The run of an alert about no single run."""


def query_directory(tables_dir: Path, name: str, kind: str) -> Path:
    """The directory of the rows of TABLE or ALERTS of a query."""
    return tables_dir / QUERIES_DIRECTORY / name / kind


def read_query_rows(tables_dir: Path, name: str, kind: str = TABLE) -> pa.Table:
    """The rows of a user's query, NAME.py; a table without columns if there are none yet."""
    while files := query_files(query_directory(tables_dir, name, kind)):
        with suppress(FileNotFoundError):  # the query starts anew
            return pa.concat_tables([pq.read_table(file) for file in files])
    return pa.table({})


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
    """The alerts of all own queries about these runs, as rows of the table `alerts`; not those of deleted runs of these
    names."""
    parts = [_alerts_of(*state) for state in own_alerts_state(tables_dir)]
    found = pa.concat_tables([_FOUND_ALERTS.empty_table(), *parts])
    found = found.filter(pc.is_in(found["run"], pa.array(runs, pa.string())))
    is_present = is_of_present_run(found["run"], found[_FOUND_AT], read_deletion_times(tables_dir))
    return found.filter(is_present).select(TABLES["alerts"].names)


def found_at(file: Path) -> float:
    """When the alerts in a file were found, in seconds since 1970-01-01 UTC; 0 if it does not say."""
    return float((pq.read_schema(file).metadata or {}).get(FOUND_AT, b"0"))


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
        with suppress(OSError, pa.ArrowException, LookupError, ValueError):  # removed since it was listed, or damaged
            rows += [{**alert, _FOUND_AT: found_at(file)} for alert in as_alerts(name, pq.read_table(file))]
    return pa.Table.from_pylist(rows, schema=_FOUND_ALERTS)


def _entries(directory: Path) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))
    return []


def _text(value: object) -> str:
    return "" if value is None else str(value)
