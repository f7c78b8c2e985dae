"""The result tables of a directory as the page reads them: what has not changed since is not read again."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pyarrow as pa

from longtail.streaming.tables.manifest import list_runs, manifest_state
from longtail.streaming.tables.reading import read_parts, read_result_table
from longtail.streaming.tables.schemas import RUNNING, TABLES

SILENCE_SECONDS = 15
"""While a training runs, alerts are judged anew so often even if no event comes: that is what one of them is about."""
_MAX_KEPT = {"class_epochs": 8, "confusion": 8, "pseudo_labels": 8, "unlabeled_estimates": 8, "steps": 8}
"""Of the tables that are read run by run, how many runs are kept in memory; of the others, all."""
_COLUMNS = {
    "class_epochs": [
        "run", "split", "epoch", "class_id", "class_name", "shot_group", "train_count", "pseudo_label_count", "support",
        "accuracy", "precision", "true_share", "predicted_share",
    ]
}  # fmt: skip
"""What the page shows of the one table that is large."""


_Mark = tuple[int, int] | None


@dataclass(frozen=True)
class _Kept:
    """One run's rows of a table. mark: changes with the run's tables; parts: by file; whole: all of them"""

    mark: _Mark
    parts: dict[str, pa.Table]
    whole: pa.Table


class TableReader:
    """Tables by name and run. Any thread may read.

    directory: of the tables; it may appear later
    """

    def __init__(self, tables_dir: Path) -> None:
        self.directory = tables_dir
        self._lock = Lock()
        self._kept: dict[str, OrderedDict[str, _Kept]] = {name: OrderedDict() for name in TABLES}

    def version(self) -> str:
        """A text that changes whenever a table does."""
        runs = list_runs(self.directory)
        marks = hashlib.sha256(repr([(run, manifest_state(self.directory, run)) for run in runs]).encode()).hexdigest()
        running = RUNNING in self.read("runs")["status"].to_pylist()
        return f"{marks[:16]}-{int(time.time() // SILENCE_SECONDS) if running else 0}"

    def read(self, name: str, run: str | None = None) -> pa.Table:
        """Empty for a run that the tables do not know, whatever its name."""
        runs = [known for known in list_runs(self.directory) if run in (None, known)]
        if name == "alerts":  # the present decides which run is silent
            parts = [read_result_table(self.directory, name, one) for one in runs]
        else:
            parts = [self._of_run(name, one) for one in runs]
        schema = TABLES[name].empty_table().select(_COLUMNS.get(name, TABLES[name].names))
        return pa.concat_tables([schema, *parts])

    def _of_run(self, name: str, run: str) -> pa.Table:
        mark = manifest_state(self.directory, run)
        kept = self._kept[name]
        with self._lock:
            before = kept.get(run)
            if before is not None and before.mark == mark:
                kept.move_to_end(run)
                return before.whole
        # Of a long run with many classes an epoch changes one file of many.
        columns = _COLUMNS.get(name)
        parts = read_parts(self.directory, name, run, columns=columns, known=before.parts if before else {})
        empty = TABLES[name].empty_table().select(columns or TABLES[name].names)
        whole = pa.concat_tables([empty, *parts.values()])
        with self._lock:
            kept[run] = _Kept(mark, parts, whole)
            kept.move_to_end(run)
            while len(kept) > _MAX_KEPT.get(name, len(kept)):
                kept.popitem(last=False)
        return whole
