"""Probabilities of a sample of each window's images, which the class shares of the window are estimated from.

Each image draws a number at random, and those with the lowest ones are kept: a sample of all of the window's images
without knowing how many there will be, in OUTPUT/_windows/sample-START.parquet.
"""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.conf.base.files import scratch_directory, write_atomically
from longtail.data.contract import ARRIVED_AT, PROBABILITIES
from longtail.spark_jobs.frames.writing import write_parquet
from longtail.spark_jobs.steps.window_counts import read_arrived

SAMPLED, DRAW = "_longtail_sampled", "_longtail_draw"
MOST_IMAGES = 1000
MOST_PROBABILITIES = 2**22
"""Of a window: 16 MiB."""
KEPT_WINDOWS = 2
"""The latest ones: for images that come late, and of a stream that is started again."""
_BATCH, _START = "batch", "window_start"
_COLUMNS = pa.schema([(_BATCH, pa.int64()), (DRAW, pa.float64()), (PROBABILITIES, pa.list_(pa.float32()))])


class ProbabilitySamples:
    """The samples of one stream. directory: of its windows; seconds: the length of a window"""

    def __init__(self, directory: Path, *, num_classes: int, seconds: int) -> None:
        self._directory, self._seconds = directory, seconds
        self._most = min(MOST_IMAGES, max(1, MOST_PROBABILITIES // num_classes))

    def with_sample(self, predicted: DataFrame, *, num_rows: int | None) -> DataFrame:
        """Predictions with PROBABILITIES, which get DRAW and SAMPLED, null where an image is surely not in the sample.

        num_rows: how many there are; None: few
        """
        share = 1.0 if num_rows is None else min(1.0, 2 * self._most / max(num_rows, 1))
        with_draw = predicted.withColumn(DRAW, F.rand())
        return with_draw.withColumn(SAMPLED, F.when(F.col(DRAW) < share, F.col(PROBABILITIES)))

    def add(self, batch_id: int, rows: DataFrame) -> None:
        """Take the images of a micro-batch into the samples of their windows; again if it is processed again."""
        with scratch_directory(self._directory, "probabilities") as scratch:
            write_parquet(rows.where(F.col(SAMPLED).isNotNull()).select(ARRIVED_AT, DRAW, SAMPLED), scratch / "rows")
            parts = [
                rows.append_column(_START, starts)
                for file in (scratch / "rows").glob("*.parquet")
                for rows, starts in [read_arrived(file, [DRAW, SAMPLED], seconds=self._seconds)]
            ]
        found = pa.concat_tables(parts) if parts else pa.table({_START: pa.array([], pa.timestamp("us"))})
        for start in found[_START].unique().to_pylist():
            new = found.filter(pc.equal(found[_START], pa.scalar(start, found[_START].type)))
            columns = [pa.repeat(pa.scalar(batch_id, pa.int64()), new.num_rows), new[DRAW], new[SAMPLED]]
            before = self._read(start)
            before = before.filter(pc.not_equal(before[_BATCH], batch_id))
            joined = pa.concat_tables([before, pa.table(columns, names=_COLUMNS.names).cast(_COLUMNS)])
            lowest = joined.take(pc.sort_indices(joined[DRAW])[: self._most])
            write_atomically(self._file(start), lambda file, rows=lowest: pq.write_table(rows, file))

    def forget(self) -> None:
        """Remove the samples of all but the latest windows."""
        for old in sorted(self._directory.glob("sample-*.parquet"), key=_seconds_of)[:-KEPT_WINDOWS]:
            old.unlink()

    def probabilities(self, start: datetime.datetime) -> np.ndarray | None:
        """(N, C) float32 of a window's sample; None if it is not kept any more."""
        rows = self._read(start)
        if not rows.num_rows:
            return None
        flat = rows[PROBABILITIES].combine_chunks().flatten().to_numpy()
        return flat.reshape(rows.num_rows, -1)

    def _read(self, start: datetime.datetime) -> pa.Table:
        file = self._file(start)
        return pq.read_table(file) if file.exists() else _COLUMNS.empty_table()

    def _file(self, start: datetime.datetime) -> Path:
        return self._directory / f"sample-{int(start.timestamp())}.parquet"


def _seconds_of(file: Path) -> int:
    return int(file.stem.removeprefix("sample-"))
