"""Writes the scores of every epoch as TensorBoard scalars, one log directory per run, from the result tables."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from tensorboardX import SummaryWriter

from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import TABLES

SCALARS = [field.name for field in TABLES["epochs"] if field.type == pa.float64() and field.name != "emitted_at"]


class TensorBoardSink:
    """Writes to directories in `log_dir`; pass `update` to the live query as on_update."""

    def __init__(self, tables_dir: Path, log_dir: Path) -> None:
        self._tables_dir, self._log_dir = tables_dir, log_dir
        self._written: dict[str, list[tuple]] = {}

    def update(self, runs: Sequence[str]) -> None:
        """Add the new epochs of these runs.

        The log of a run is rewritten if an epoch that was written has changed or the log was deleted, and when this
        process sees the run for the first time, because TensorBoard cannot replace a value. The log of a run that the
        tables no longer have is removed.
        """
        if not self._log_dir.is_dir():  # somebody has deleted the logs of all runs
            runs = list(dict.fromkeys([*runs, *self._written]))
        for run in runs:
            epochs = read_result_table(self._tables_dir, "epochs", run, columns=["epoch", "split", *SCALARS])
            ordered = epochs.sort_by([("epoch", "ascending"), ("split", "ascending")])
            rows = [tuple(row.values()) for row in ordered.to_pylist()]
            written = self._written.get(run)
            if written is None or not (self._log_dir / run).is_dir() or rows[: len(written)] != written:
                shutil.rmtree(self._log_dir / run, ignore_errors=True)
                written = []
            if new := rows[len(written) :]:
                # The suffix distinguishes two files of the same second.
                with SummaryWriter(str(self._log_dir / run), filename_suffix=f".{len(written)}") as scalars:
                    for epoch, split, *values in new:
                        for name, value in zip(SCALARS, values, strict=True):
                            if value is not None:
                                scalars.add_scalar(f"{split}/{name}", value, epoch)
            self._written[run] = rows
