"""The rows of a result table of one run as CSV, for spreadsheets and whatever else draws charts."""

import io
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import csv

from longtail.streaming.dashboard.table_rows import ReadTable
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.tables.reading import rows_where

ADDRESS = "/data.csv"
TABLES_TO_DOWNLOAD = ("class_epochs", "epochs", "confusion", "pseudo_labels", "steps", "predictions")
_ROWS_AT_ONCE = 50_000


def rows_to_download(read: ReadTable, table: str, run: str, split: str | None) -> pa.Table | None:
    """The rows of a run in a table, of a split if that is given; None if there are none, or no such table or run."""
    if table not in TABLES_TO_DOWNLOAD or not RUN_NAME.fullmatch(run):
        return None
    rows = read(table, run)
    if split and "split" in rows.column_names:
        rows = rows_where(rows, split=split)
    return rows if len(rows) else None


def csv_parts(rows: pa.Table) -> Iterator[bytes]:
    """The table as CSV with a heading, piece by piece: as a whole, that of many classes takes much memory."""
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        part = io.BytesIO()
        csv.write_csv(rows.slice(first, _ROWS_AT_ONCE), part, csv.WriteOptions(include_header=first == 0))
        yield part.getvalue()
