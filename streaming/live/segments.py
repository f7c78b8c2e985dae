"""The segments of result tables that were read or written last: an update needs those of the update before.

Files of segments never change, and their names are never used again, so that a table that was kept is that of its file.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.reading import read_segment
from longtail.streaming.tables.schemas import TABLES

MAX_BYTES = 64 << 20


class Segments:
    """Reads segments. Only for the writer of the tables, who replaces no file meanwhile.

    Those read or written last are kept in memory, up to MAX_BYTES.
    """

    def __init__(self, tables_dir: Path) -> None:
        self._tables_dir = tables_dir
        self._kept: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    def read(self, manifest: RunManifest, name: str, segments: Iterable[str]) -> pa.Table:
        """The rows of these segments of a run's table. Raises DamagedTables if a file is missing or cannot be read."""
        files = manifest.files.get(name, {})
        parts = [self._read(manifest.run, name, files[segment]) for segment in segments if segment in files]
        return pa.concat_tables([TABLES[name].empty_table(), *parts])

    def keep(self, manifest: RunManifest, written: Mapping[str, Mapping[str, pa.Table]]) -> None:
        """Keep what was written, by table and segment, under the names that the manifest gives it."""
        for name, by_segment in written.items():
            for segment, table in by_segment.items():
                if not table.num_rows:  # it has no file
                    continue
                rows = table.select(TABLES[name].names).cast(TABLES[name])
                with self._lock:  # several runs are written at the same time
                    self._keep(manifest.run, manifest.files[name][segment], rows)

    def _read(self, run: str, name: str, file: str) -> pa.Table:
        key = (run, file)
        if key not in self._kept:
            self._keep(run, file, read_segment(self._tables_dir, run, name, file))
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, run: str, file: str, table: pa.Table) -> None:
        table = table.combine_chunks()
        if table.get_total_buffer_size() > 2 * table.nbytes:  # a part of a larger table, which would stay in memory
            table = table.take(pa.array(np.arange(table.num_rows)))
        self._kept[run, file] = table
        self._num_bytes += table.nbytes
        while self._num_bytes > MAX_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= oldest.nbytes
