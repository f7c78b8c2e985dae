"""Writes the alerts of a user's own query (streaming/tables/query_rows.py): each run, split and message once."""

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically
from longtail.streaming.tables.query_rows import as_alerts, query_files

Alerts = list[dict[str, Any]]


class OwnAlerts:
    """The only writer of the alerts of a query: a file for each micro-batch that has new ones.

    directory: of the files
    name: of the query
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._file_of: dict[tuple[str, str, str], str] = {}
        for file in query_files(directory):
            for alert in as_alerts(name, pq.read_table(file)):
                self._file_of.setdefault(_identity(alert), file.name)

    def add(self, rows: pa.Table, batch_id: int) -> Alerts:
        """Add the rows of a micro-batch that are new; as rows of the table `alerts`.

        The same if it comes again, as after a kill. A row without a message is no alert.
        """
        file = f"rows-{batch_id:09d}.parquet"
        rows = rows.filter(pc.is_valid(rows["message"]))
        alerts = as_alerts(self._name, rows)
        new: dict[tuple[str, str, str], int] = {}
        for index, alert in enumerate(alerts):
            if self._file_of.setdefault(_identity(alert), file) == file:
                new.setdefault(_identity(alert), index)
        if new:
            kept = rows.take(list(new.values()))
            write_atomically(self._directory / file, partial(pq.write_table, kept, compression="zstd"))
        return [alerts[index] for index in new.values()]


def _identity(alert: dict[str, Any]) -> tuple[str, str, str]:
    return alert["run"], alert["split"], alert["message"]
