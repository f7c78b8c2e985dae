"""Writes the Parquet files of a prepared set; each task writes one file of each split that its images belong to.

A file appears whole under its name, so that a task may fail, or run twice, at any moment. Its directory must exist: the
task of a preparation that was interrupted does not make it again.
"""

import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.conf.vocabulary import NO_CLASS
from longtail.data.checksums import rows_checksum
from longtail.data.contract import HIDDEN_LABEL, ID, IMAGE, LABEL, PREPARED_SCHEMA, split_directory

FILE_BYTES = 128 * 1024**2
ROW_GROUP_BYTES = 16 * 1024**2
BUFFERED_BYTES = 4 * ROW_GROUP_BYTES
"""Images of a split that a task holds before it writes them; among so many they are mixed."""
PAGE_BYTES = 1024**2
_SCHEMA = pa.schema([PREPARED_SCHEMA.field(name).with_nullable(True) for name in (ID, IMAGE, LABEL, HIDDEN_LABEL)])


@dataclass(frozen=True)
class WrittenSplit:
    """What a task has written of a split.

    checksum: of data/checksums.py
    class_counts: images by class, in the unlabeled part by the withheld label; NO_CLASS for the others
    """

    split: str
    checksum: int
    class_counts: dict[int, int]


class SetFiles:
    """The files that one task writes. A context: after an error, none is left that is not whole."""

    def __init__(self, set_dir: Location, number: int, *, mix: bool, file_bytes: int = FILE_BYTES) -> None:
        """Files in the directories of the splits, which exist.

        number: of the task
        mix: order rows by a hash, as neighbours are often of one class, instead of by id
        file_bytes: of the images after which another file is begun
        """
        self._set_dir, self._number, self._mix, self._file_bytes = set_dir, number, mix, file_bytes
        self._splits: dict[str, _SplitFiles] = {}

    def __enter__(self) -> "SetFiles":
        return self

    def __exit__(self, *error: Any) -> None:
        for files in self._splits.values():
            files.opened.__exit__(*error)

    def add(self, split: str, rows: pa.RecordBatch, hashes: np.ndarray) -> None:
        """Add rows (id, image, label, hidden_label) with hashes (N,) to the files of a split."""
        if split not in self._splits:
            first = split_directory(self._set_dir, split) / f"part-{self._number:05d}"
            self._splits[split] = _SplitFiles(first, mix=self._mix, file_bytes=self._file_bytes)
        self._splits[split].add(rows, hashes)

    def finish(self) -> list[WrittenSplit]:
        """Write what is left. Without an error, all files are there then."""
        return [WrittenSplit(split, *files.finish()) for split, files in self._splits.items()]


class _SplitFiles:
    """The files of one split.

    opened: the one that is being written
    """

    def __init__(self, path: Location, *, mix: bool, file_bytes: int) -> None:
        """path: without the file's number and suffix"""
        self.opened = ExitStack()
        self._path, self._mix, self._file_bytes = path, mix, file_bytes
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[pa.RecordBatch] = []
        self._hashes: list[np.ndarray] = []
        self._num_files = self._num_buffered = self._num_written = self._checksum = 0
        self._class_counts: Counter[int] = Counter()

    def add(self, rows: pa.RecordBatch, hashes: np.ndarray) -> None:
        self._checksum += rows_checksum(rows)
        classes = pc.coalesce(rows.column(LABEL), rows.column(HIDDEN_LABEL), pa.scalar(NO_CLASS, pa.int32()))
        found, counts = np.unique(classes.to_numpy(), return_counts=True)
        self._class_counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        self._rows.append(rows)
        self._hashes.append(hashes)
        self._num_buffered += pc.sum(pc.binary_length(rows.column(IMAGE))).as_py()
        if self._num_buffered >= BUFFERED_BYTES:
            self._write_rows()

    def finish(self) -> tuple[int, dict[int, int]]:
        """The checksum and the class counts of all rows."""
        if self._rows:
            self._write_rows()
        self.opened.close()
        return self._checksum, dict(self._class_counts)

    def _write_rows(self) -> None:
        rows = pa.Table.from_batches(self._rows)
        if self._mix:
            rows = rows.take(pa.array(np.argsort(np.concatenate(self._hashes))))
        lengths = pc.binary_length(rows.column(IMAGE)).to_numpy().astype(np.int64)
        groups = (np.cumsum(lengths) - lengths) // min(ROW_GROUP_BYTES, self._file_bytes)
        starts = np.flatnonzero(np.diff(groups, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(lengths)], strict=True):
            if self._writer is None or self._num_written >= self._file_bytes:
                self._writer = self._next_file(image_bytes=max(1, int(lengths.mean())))
            self._writer.write_table(rows.slice(start, end - start), row_group_size=end - start)
            self._num_written += int(lengths[start:end].sum())
        self._rows, self._hashes, self._num_buffered = [], [], 0

    def _next_file(self, *, image_bytes: int) -> pq.ParquetWriter:
        self.opened.close()
        path = self._path.with_name(f"{self._path.name}-{self._num_files:03d}.parquet")
        self._num_files, self._num_written = self._num_files + 1, 0
        temporary = self.opened.enter_context(_whole_file(path))
        return self.opened.enter_context(_writer(temporary, image_bytes=image_bytes))


def _writer(path: Path, *, image_bytes: int) -> pq.ParquetWriter:
    options: dict[str, Any] = {
        "compression": "lz4",
        # Few images repeat: a dictionary would only cost memory.
        "use_dictionary": [LABEL, HIDDEN_LABEL],
        "write_statistics": [ID, LABEL, HIDDEN_LABEL],
        "write_page_checksum": True,
        "store_schema": False,
        "data_page_size": PAGE_BYTES,
        # After so many values the size of a page is looked at.
        "write_batch_size": max(1, min(1024, PAGE_BYTES // image_bytes)),
    }
    return pq.ParquetWriter(path, _SCHEMA, **options)


@contextmanager
def _whole_file(path: Location) -> Iterator[Path]:
    """A file on the local disk to fill; it is ``path`` only if the block succeeds."""
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="longtail-") as directory:
            local = Path(directory, path.name)
            yield local
            path.upload(local)
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
