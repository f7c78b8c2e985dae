"""Writes the alerts of a user's own query (streaming/tables/query_rows.py): each run, split and message once."""

import math
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically
from longtail.streaming.tables.deletions import read_deletion_times
from longtail.streaming.tables.query_rows import ALERTS, FOUND_AT, as_alerts, found_at, query_directory, query_files

Alerts = list[dict[str, Any]]


class OwnAlerts:
    """The only writer of the alerts of a query: a file for each micro-batch that has new ones.

    tables_dir: the directory of the result tables; name: of the query
    """

    def __init__(self, tables_dir: Path, name: str) -> None:
        self._tables_dir, self._directory, self._name = tables_dir, query_directory(tables_dir, name, ALERTS), name
        self._found: dict[tuple[str, str, str], _Found] = {}
        for file in query_files(self._directory):
            for alert in as_alerts(name, pq.read_table(file)):
                self._found[_identity(alert)] = _Found(file.name, found_at(file))

    def add(self, rows: pa.Table, batch_id: int) -> Alerts:
        """Add the rows of a micro-batch that are new; as rows of the table `alerts`.

        The same if it comes again, as after a kill. A row without a message is no alert. What was found of a run that
        was deleted is new of another run of its name.
        """
        file, now, deleted_at = f"rows-{batch_id:09d}.parquet", time.time(), read_deletion_times(self._tables_dir)
        rows = rows.filter(pc.is_valid(rows["message"]))
        alerts = as_alerts(self._name, rows)
        new: dict[tuple[str, str, str], int] = {}
        for index, alert in enumerate(alerts):
            identity = _identity(alert)
            known = self._found.get(identity)
            if known is None or known.at <= deleted_at.get(alert["run"], -math.inf):
                self._found[identity] = known = _Found(file, now)
            if known.file == file:
                new.setdefault(identity, index)
        if new:
            kept = rows.take(list(new.values())).replace_schema_metadata({FOUND_AT: str(now).encode()})
            write_atomically(self._directory / file, partial(pq.write_table, kept, compression="zstd"))
        return [alerts[index] for index in new.values()]


class _Found(NamedTuple):
    file: str
    at: float


def _identity(alert: dict[str, Any]) -> tuple[str, str, str]:
    return alert["run"], alert["split"], alert["message"]
