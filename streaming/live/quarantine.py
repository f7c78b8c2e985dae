"""Writes the quarantine: lines that are no events, or stop the update of the tables, each of them once."""

import hashlib
from pathlib import Path

import pyarrow as pa

from longtail.streaming.parsing.arrow import run_named_in
from longtail.streaming.tables.quarantine_files import quarantine_files
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import QUARANTINE, TABLES
from longtail.streaming.tables.writing import write_quarantine


class Quarantine:
    """The only writer of the quarantine of a directory of result tables.

    A line is known by its text and the reason, not by where it was read: a restart, a new checkpoint and a relay that
    repeats it, under another offset, add nothing.
    """

    def __init__(self, tables_dir: Path) -> None:
        self._tables_dir = tables_dir
        self._known: set[bytes] = set()
        if quarantine_files(tables_dir):
            self._known.update(map(_identity, read_result_table(tables_dir, QUARANTINE).to_pylist()))

    def add(self, lines: pa.Table) -> None:
        """Add lines (reason, line, source) that are not there yet."""
        new: dict[bytes, dict[str, str | None]] = {}
        for row in lines.to_pylist():
            if (identity := _identity(row)) not in self._known:
                new.setdefault(identity, {**row, "run": run_named_in(row["line"])})
        if new:
            write_quarantine(self._tables_dir, pa.Table.from_pylist(list(new.values()), schema=TABLES[QUARANTINE]))
            self._known.update(new)


def _identity(row: dict[str, str | None]) -> bytes:
    return hashlib.sha256(f"{row['reason']}\0{row['line']}".encode()).digest()[:16]
