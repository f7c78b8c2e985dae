"""The reports that have a run among their trials, as `longtail report` writes them, for the live page."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_regular_file
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import check_memory
from longtail.data.storage import open_parquet
from longtail.spark_jobs.steps.report_files import CSV_FILE, IMAGES_FILE, LATEX_FILE, PAGE_FILE, TRIALS_FILE

_RUN = "run"
"""The column of the table of trials (studies/trial_row.py)."""
_SERVED = (PAGE_FILE, IMAGES_FILE, TRIALS_FILE, CSV_FILE, LATEX_FILE)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_MOST_REPORTS = 200
_MOST_BYTES = 50 * 2**20
"""Of a file: a page has its figures in it."""


class RunReports:
    """The reports of a directory, which need not be there; thread-safe.

    No part of an address becomes a path: names are looked up among those that there are. What is a link, damaged or
    too large counts as not there; a directory in a store is not asked.
    """

    def __init__(self, directory: Location) -> None:
        self._directory = directory
        self._lock = Lock()
        self._runs: dict[str, tuple[tuple[int, int], list[str]]] = {}  # size and time of the table, and its runs

    def by_run(self) -> Mapping[str, Mapping[str, str]]:
        """The names of the experiments that have a run, and the addresses of their reports on the page."""
        found: dict[str, dict[str, str]] = {}
        for name, directory in self._reports().items():
            for run in self._runs_of(name, directory / TRIALS_FILE):
                found.setdefault(run, {})[name] = f"reports/{name}/{PAGE_FILE}"
        return found

    def content(self, name: str, file: str) -> bytes | None:
        """The content of a file of a report, its page or one that the page links to; None for anything else."""
        directory = self._reports().get(name)
        if directory is None or file not in _SERVED or (directory / file).is_symlink():
            return None
        with suppress(OSError), open_regular_file(directory / file) as opened:
            content = opened.read(_MOST_BYTES + 1)
            return content if len(content) <= _MOST_BYTES else None
        return None

    def _reports(self) -> dict[str, Path]:
        if not isinstance(self._directory, Path):
            return {}
        with suppress(OSError):
            entries = sorted(entry for entry in self._directory.iterdir() if _NAME.fullmatch(entry.name))
            return {
                entry.name: entry
                for entry in entries[:_MOST_REPORTS]
                if not entry.is_symlink() and (entry / PAGE_FILE).is_file()
            }
        return {}

    def _runs_of(self, name: str, table: Path) -> list[str]:
        try:
            status = table.lstat()
        except OSError:
            return []
        state = (status.st_size, status.st_mtime_ns)
        with self._lock:
            known = self._runs.get(name)
        if known is None or known[0] != state:
            known = state, [] if table.is_symlink() else _runs_in(table)
            with self._lock:
                self._runs[name] = known
        return known[1]


def _runs_in(table: Path) -> list[str]:
    with suppress(UserError, OSError, ValueError), open_parquet(table) as parquet:
        if _RUN in parquet.schema_arrow.names:
            check_memory(parquet, [_RUN], file=table, as_dictionaries=True)
            runs = parquet.read([_RUN])[_RUN].unique().to_pylist()
            return [run for run in runs if isinstance(run, str)]
    return []
