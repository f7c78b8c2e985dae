"""The scores of every epoch as TensorBoard scalars, a log directory a run, kept like the tables they are read from."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from tensorboardX import SummaryWriter

from longtail.streaming.tables.store import TABLES, read_table

SCALARS = [field.name for field in TABLES["epochs"] if field.type == pa.float64() and field.name != "emitted_at"]


class TensorBoardSink:
    """Writes below `log_dir`; give `update` to the live query as on_update."""

    def __init__(self, tables_dir: Path, log_dir: Path) -> None:
        self._tables_dir, self._log_dir = tables_dir, log_dir
        self._written: dict[str, list[tuple]] = {}

    def update(self, runs: Sequence[str]) -> None:
        """The tables of these runs have changed: their new epochs are added.

        What the log says of a run is written anew if the table has changed in what was written already, and when this
        process sees the run for the first time: TensorBoard can't take a value back.
        """
        for run in runs:
            epochs = read_table(self._tables_dir, "epochs", run, columns=["epoch", "split", *SCALARS])
            ordered = epochs.sort_by([("epoch", "ascending"), ("split", "ascending")])
            rows = [tuple(row.values()) for row in ordered.to_pylist()]
            written = self._written.get(run)
            if written is None or rows[: len(written)] != written:
                shutil.rmtree(self._log_dir / run, ignore_errors=True)
                written = []
            if new := rows[len(written) :]:
                # Two files of one second would have one name.
                with SummaryWriter(str(self._log_dir / run), filename_suffix=f".{len(written)}") as scalars:
                    for epoch, split, *values in new:
                        for name, value in zip(SCALARS, values, strict=True):
                            if value is not None:
                                scalars.add_scalar(f"{split}/{name}", value, epoch)
            self._written[run] = rows
