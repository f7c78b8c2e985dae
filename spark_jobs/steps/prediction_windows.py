"""What a stream of predictions counts by window of time: in OUTPUT/_windows, and the record of its reports beside it.

Each micro-batch has a file of its own, which is replaced if the batch is processed again.
"""

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.data.contract import CONFIDENCE, PREDICTED
from longtail.data.storage import table_files
from longtail.spark_jobs.steps.window_counts import WindowCounts, confidence_bins, read_arrived
from longtail.streaming.drift import CONFIDENCE_BINS, are_comparable, findings

WINDOWS_DIRECTORY = "_windows"
DRIFT_FILE = "drift.json"
START, FINDINGS = "window_start", "findings"
BIN = "confidence_bin"
REFERENCE_IMAGES = 1000
"""Without a reference, the first windows are it, until they have so many images."""
MOST_FILES = 100
"""More are merged, so that neither the directory nor the time of a batch grows with the batches."""
_KEY = (START, PREDICTED, BIN)
_SUMS = ("images", "confidence_sum", "confidence_squares")
_EARLIEST, _LATEST = (pa.scalar(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)) for year in (1, 9999))
"""An image that says to have come at another time is counted in no window."""
_FILE = re.compile(r"batches-([0-9]+)-([0-9]+)\.parquet")

Batches = tuple[int, int]
"""The first and the last of consecutive micro-batches."""


@dataclass(frozen=True)
class EndedWindow:
    """A window that a later one has followed.

    reference: what it is compared with; None while the stream has none, or if the window is part of it
    findings: in what it differs from the reference; None if it is not compared, or has too few images for that
    """

    start: datetime.datetime
    counts: WindowCounts
    reference: WindowCounts | None
    findings: list[str] | None


class PredictionWindows:
    """The windows of one stream's table.

    output: the table; seconds: the length of a window
    reference: predictions to compare with; None: the first windows of the stream
    """

    def __init__(
        self, output: Path, class_names: list[str], *, seconds: int, reference: WindowCounts | None = None
    ) -> None:
        self._directory, self._class_names, self.seconds = output / WINDOWS_DIRECTORY, class_names, seconds
        self._reference, self._reference_end = reference, None if reference is None else _EARLIEST.as_py()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._parts = self._stored()
        self._reported: dict[str, list[str] | None] = {entry[START]: entry[FINDINGS] for entry in self._recorded()}
        # Whoever was killed had not reported all.
        self._starts = {start for part in self._parts.values() for start in part[START].unique().to_pylist()}
        self._changed = {start for start in self._starts if start.isoformat() not in self._reported}

    def add(self, batch_id: int, table: Path) -> int:
        """Count the predictions in the directory of a micro-batch; how many images have one."""
        parts, num_images = [], 0
        for file in table_files(table):
            rows, starts = read_arrived(file, [PREDICTED, CONFIDENCE], seconds=self.seconds)
            rows = rows.append_column(START, starts).filter(pc.is_valid(rows[PREDICTED]))
            num_images += rows.num_rows
            starts, confidence = rows[START], rows[CONFIDENCE].cast(pa.float64())
            columns = [
                starts,
                rows[PREDICTED],
                confidence_bins(confidence),
                pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows),
                confidence,
                pc.multiply(confidence, confidence),
            ]
            is_counted = pc.and_(pc.greater_equal(starts, _EARLIEST), pc.less(starts, _LATEST))
            parts.append(pa.table(columns, names=[*_KEY, *_SUMS]).filter(is_counted))
        summed = _summed(pa.concat_tables(parts))
        self._write((batch_id, batch_id), summed)
        starts = summed[START].unique().to_pylist()
        self._starts.update(starts)
        self._changed.update(starts)
        if len(self._parts) > MOST_FILES:
            self._merge()
        return num_images

    def counts(self, start: datetime.datetime) -> WindowCounts:
        """The predictions of a window."""
        rows = pa.concat_tables(part.filter(pc.equal(part[START], start)) for part in self._parts.values())
        return _counts(rows, len(self._class_names))

    def ended(self, *, is_over: bool = False) -> list[EndedWindow]:
        """The windows that have ended, or got images after that, since they were last reported, in the order of time.

        is_over: the last window has ended too
        """
        starts = sorted(self._starts)
        over = starts if is_over else starts[:-1]
        due = [start for start in over if start in self._changed]
        if due and self._reference_end is None:
            self._settle(over)
        return [self._judged(start) for start in due]

    def note_reported(self, window: EndedWindow) -> bool:
        """Note that a window has been reported; whether its findings are new, as they are once for each window."""
        self._changed.discard(window.start)
        name = window.start.isoformat()
        is_new = window.findings is not None and self._reported.get(name) is None
        if is_new or name not in self._reported:
            self._reported[name] = window.findings
            record = [{START: start, FINDINGS: lines} for start, lines in self._reported.items()]
            write_json_atomically(self._directory / DRIFT_FILE, record)
        return is_new

    def _settle(self, over: list[datetime.datetime]) -> None:
        """Take the first windows as the reference, once they have so many images."""
        reference: WindowCounts | None = None
        for start in over:
            counts = self.counts(start)
            reference = counts if reference is None else reference + counts
            if reference.num_images >= REFERENCE_IMAGES:
                self._reference, self._reference_end = reference, start
                return

    def _judged(self, start: datetime.datetime) -> EndedWindow:
        counts, reference = self.counts(start), self._reference
        if reference is None or self._reference_end is None or start <= self._reference_end:
            return EndedWindow(start, counts, None, None)
        both = counts.predictions(reference), reference.predictions(reference)
        lines = findings(*both, self._class_names) if are_comparable(*both) else None
        return EndedWindow(start, counts, reference, lines)

    def _recorded(self) -> list[dict[str, Any]]:
        file = self._directory / DRIFT_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []

    def _stored(self) -> dict[Batches, pa.Table]:
        named = {
            (int(found[1]), int(found[2])): file
            for file in self._directory.iterdir()
            if (found := _FILE.fullmatch(file.name))
        }
        # Whoever was killed while merging has left files of batches that the merged file has.
        whole = [one for one in named if not any(_is_within(one, other) for other in named)]
        return {batches: pq.read_table(named[batches]) for batches in sorted(whole)}

    def _merge(self) -> None:
        """All but the last one, which is processed again if Spark does not know yet that it is done."""
        *earlier, _ = sorted(self._parts)
        merged = _summed(pa.concat_tables(self._parts[batches] for batches in earlier))
        self._write((earlier[0][0], earlier[-1][1]), merged)
        for batches in earlier:
            del self._parts[batches]
            self._file(batches).unlink()

    def _write(self, batches: Batches, rows: pa.Table) -> None:
        write_atomically(self._file(batches), lambda file: pq.write_table(rows, file))
        self._parts[batches] = rows

    def _file(self, batches: Batches) -> Path:
        return self._directory / f"batches-{batches[0]}-{batches[1]}.parquet"


def _is_within(one: Batches, other: Batches) -> bool:
    return one != other and other[0] <= one[0] and one[1] <= other[1]


def _summed(rows: pa.Table) -> pa.Table:
    """A row for each window, class and bin of confidence."""
    return (
        rows.group_by(list(_KEY))
        .aggregate([(name, "sum") for name in _SUMS])
        .select([*_KEY, *(f"{name}_sum" for name in _SUMS)])
        .rename_columns([*_KEY, *_SUMS])
    )


def _counts(rows: pa.Table, num_classes: int) -> WindowCounts:
    classes, bins = rows[PREDICTED].to_numpy(), rows[BIN].to_numpy()
    images = np.zeros((num_classes, CONFIDENCE_BINS), np.int64)
    np.add.at(images, (classes, bins), rows["images"].to_numpy())
    sums, squares = (np.bincount(classes, weights=rows[name].to_numpy(), minlength=num_classes) for name in _SUMS[1:])
    return WindowCounts(images, sums, squares)
