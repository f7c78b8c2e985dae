"""What a stream of predictions counts by window of time: in OUTPUT/_windows, and the record of drift beside it.

Each micro-batch has a file of its own, which is replaced if the batch is processed again.
"""

import datetime
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.names import with_examples
from longtail.data.contract import ARRIVED_AT, CLASS_NAME, CONFIDENCE, PREDICTED
from longtail.data.storage import check_columns, open_parquet, table_files
from longtail.streaming.drift import FEWEST_IMAGES, Predictions, findings

WINDOWS_DIRECTORY = "_windows"
DRIFT_FILE = "drift.json"
START = "window_start"
REFERENCE_IMAGES = 1000
"""Without a reference, the first windows are it, until they have so many images."""
MOST_FILES = 100
"""More are merged, so that neither the directory nor the time of a batch grows with the batches."""
_SUMS = ("images", "confidence_sum", "confidence_squares")
_FILE = re.compile(r"batches-([0-9]+)-([0-9]+)\.parquet")

Batches = tuple[int, int]
"""The first and the last of consecutive micro-batches."""


class PredictionWindows:
    """The windows of one stream's table.

    output: the table; seconds: the length of a window
    reference: predictions to compare with; None: the first windows of the stream
    """

    def __init__(
        self, output: Path, class_names: list[str], *, seconds: int, reference: Predictions | None = None
    ) -> None:
        self._directory, self._class_names, self._seconds = output / WINDOWS_DIRECTORY, class_names, seconds
        self._reference, self._is_settled = reference, reference is not None
        self._ended: datetime.datetime | None = None
        self._directory.mkdir(parents=True, exist_ok=True)
        self._parts = self._stored()

    def add(self, batch_id: int, table: Path) -> int:
        """Count the predictions in the directory of a micro-batch; how many images have one."""
        names = [ARRIVED_AT, PREDICTED, CONFIDENCE]
        rows = pa.concat_tables(pq.ParquetFile(file).read(names) for file in table_files(table))
        rows = rows.filter(pc.is_valid(rows[PREDICTED]))
        confidence = rows[CONFIDENCE].cast(pa.float64())
        columns = [
            pc.floor_temporal(rows[ARRIVED_AT], self._seconds, unit="second"),
            rows[PREDICTED],
            pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows),
            confidence,
            pc.multiply(confidence, confidence),
        ]
        self._write((batch_id, batch_id), _summed(pa.table(columns, names=[START, PREDICTED, *_SUMS])))
        if len(self._parts) > MOST_FILES:
            self._merge()
        return rows.num_rows

    def by_start(self, *, after: datetime.datetime | None = None) -> dict[datetime.datetime, Predictions]:
        """The windows with predictions, in the order of time; after: only later ones."""
        if not self._parts:
            return {}
        rows = pa.concat_tables(self._parts.values())
        if after is not None:
            rows = rows.filter(pc.greater(rows[START], pa.scalar(after, rows[START].type)))
        return {
            start: _predictions(rows.filter(pc.equal(rows[START], start)), len(self._class_names))
            for start in sorted(rows[START].unique().to_pylist())
        }

    def judge(self, *, is_over: bool = False) -> list[tuple[datetime.datetime, list[str]]]:
        """The windows that have ended since the last call, and in what each differs from the reference.

        A window has ended when a later one has images. The windows that are the reference are not judged.
        is_over: judge the last window too

        Each window is judged once, also by processes that go on with the same table.
        """
        file = self._directory / DRIFT_FILE
        windows = self.by_start(after=self._ended)
        starts = list(windows) if is_over else list(windows)[:-1]
        if not starts:
            return []
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        judged, found = {entry[START] for entry in record}, []
        for start in starts:
            self._ended, window = start, windows[start]
            if not self._is_settled:
                self._reference = window if self._reference is None else self._reference + window
                self._is_settled = self._reference.num_images >= REFERENCE_IMAGES
            elif start.isoformat() not in judged and window.num_images >= FEWEST_IMAGES:
                assert self._reference is not None, "it is settled"
                found.append((start, findings(window, self._reference, self._class_names)))
        if found:
            new = [{START: start.isoformat(), "findings": lines} for start, lines in found]
            write_json_atomically(file, [*record, *new])
        return found

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
    """A row for each window and class."""
    return (
        rows.group_by([START, PREDICTED])
        .aggregate([(name, "sum") for name in _SUMS])
        .select([START, PREDICTED, *(f"{name}_sum" for name in _SUMS)])
        .rename_columns([START, PREDICTED, *_SUMS])
    )


def read_reference(table: Location, class_names: list[str], *, of: Location) -> Predictions:
    """The predictions of a table that `longtail predict` wrote, matched by the names of the classes.

    of: the checkpoint that has these names, for messages

    Raises UserError if a prediction is of none of these classes.
    """
    counted = Predictions(np.zeros(len(class_names), np.int64), 0.0, 0.0)
    for file in table_files(table):
        with open_parquet(file) as parquet:
            check_columns(parquet, [CLASS_NAME, CONFIDENCE], file=file)
            rows = parquet.read([CLASS_NAME, CONFIDENCE])
        values = pc.value_counts(rows[CLASS_NAME].drop_null().cast(pa.string())).to_pylist()
        found = {value["values"]: value["counts"] for value in values}
        if foreign := sorted(found.keys() - set(class_names)):
            raise UserError(
                f"{file} has predictions of other classes than {of}: {with_examples(foreign)}; name another --reference"
            )
        confidence = rows[CONFIDENCE].drop_null().to_numpy().astype(float)
        counts = np.array([found.get(name, 0) for name in class_names])
        counted += Predictions(counts, confidence.sum(), (confidence**2).sum())
    if counted.num_images < FEWEST_IMAGES:
        raise UserError(f"{table} has {counted.num_images} predictions, at least {FEWEST_IMAGES} are a reference")
    return counted


def _predictions(rows: pa.Table, num_classes: int) -> Predictions:
    images = rows["images"].to_numpy()
    counts = np.bincount(rows[PREDICTED].to_numpy(), weights=images, minlength=num_classes).astype(np.int64)
    return Predictions(counts, *(float(pc.sum(rows[name]).as_py()) for name in _SUMS[1:]))
