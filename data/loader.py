"""From a prepared set's Parquet files to arrays in memory.

Raw images are copied from the Arrow buffers without a Python object per row, encoded ones are decoded, both in threads.
Rows are sorted by id, so that the result does not depend on how they are distributed over files. Every page is checked
against its CRC, the rows against the manifest.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import check_memory
from longtail.conf.vocabulary import NO_CLASS, UNLABELED
from longtail.data.contract import (
    ENCODED,
    HIDDEN_LABEL,
    ID,
    LABEL,
    ROWS_DIRECTORY,
    SPLIT,
    split_directory,
)
from longtail.data.delta import delta_files, is_delta
from longtail.data.image_files import decode_files
from longtail.data.manifest import Manifest
from longtail.data.row_groups import RowGroup, of_contract, read_image_column, row_groups
from longtail.data.storage import check_columns, damaged, open_parquet, table_files


@dataclass(frozen=True)
class ImageArrays:
    """One split, sorted by id.

    ids: (N,) int64
    images: (N, height, width, channels) uint8
    labels: (N,) int64, or None for the unlabeled part
    """

    ids: np.ndarray
    images: np.ndarray
    labels: np.ndarray | None


def load_split(set_dir: Location, split: str, manifest: Manifest) -> ImageArrays:
    """Load all images of one split, without the withheld labels.

    Raises UserError if a file is missing or damaged, or if the rows differ from the manifest.
    """
    labelled = split != UNLABELED
    files = split_files(set_dir, split)
    ids, labels = checked_rows(read_columns(files, [ID, *([LABEL] if labelled else [])]), set_dir, split, manifest)
    order = np.argsort(ids, kind="stable")
    groups = row_groups(files)
    images = np.empty((len(ids), *manifest.image_shape), np.uint8)
    ranks = np.empty_like(order)  # by row, its index in the order of the ids
    ranks[order] = np.arange(len(order))
    ranks_by_group = np.split(ranks, np.cumsum([group.num_rows for group in groups])[:-1])

    def fill(group: RowGroup, indices: np.ndarray) -> None:
        images[indices] = decode_images(read_image_column(group), manifest.image_shape, manifest.encoding)

    # Decoding has threads of its own. Only a few row groups are in memory beside the array.
    with ThreadPoolExecutor(1 if manifest.encoding == ENCODED else os.cpu_count()) as threads:
        for _ in threads.map(fill, groups, ranks_by_group):
            pass
    return ImageArrays(ids[order], images, None if labels is None else labels[order])


def checked_rows(
    table: pa.Table, set_dir: Location, split: str, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids (N,) int64 and labels (N,) int64 of a split's rows, in the table's order; no labels in the unlabeled part.

    Raises UserError if the rows differ from the manifest.
    """
    if table.num_rows != manifest.num_images(split):
        raise UserError(
            f"{split_directory(set_dir, split)} has {table.num_rows} images, its manifest "
            f"{manifest.num_images(split)}: delete {set_dir} and run `longtail prepare` again"
        )
    table = of_contract(table, file=split_directory(set_dir, split))
    ids = table.column(ID).to_numpy()
    if split == UNLABELED:
        return ids, None
    labels = table.column(LABEL).fill_null(NO_CLASS).to_numpy().astype(np.int64)
    if labels.max(initial=0) >= manifest.num_classes:
        raise UserError(
            f"{split_directory(set_dir, split)} has the label {labels.max()}, its manifest {manifest.num_classes} "
            f"classes: delete {set_dir} and run `longtail prepare` again"
        )
    counts = np.bincount(labels[labels >= 0], minlength=manifest.num_classes).tolist()
    if counts != manifest.counts[split]:
        raise UserError(
            f"{split_directory(set_dir, split)} has class counts {counts}, its manifest "
            f"{manifest.counts[split]}: delete {set_dir} and run `longtail prepare` again"
        )
    return ids, labels


def load_hidden_labels(set_dir: Location) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) int64 and withheld labels (N,) int64 of the unlabeled part, for the evaluation of pseudo-labels only.

    The label is NO_CLASS if an image belongs to none of the classes, or its class is unknown.
    """
    table = read_columns(split_files(set_dir, UNLABELED), [ID, HIDDEN_LABEL])
    return table.column(ID).to_numpy(), table.column(HIDDEN_LABEL).fill_null(NO_CLASS).to_numpy().astype(np.int64)


def decode_images(column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int], encoding: str) -> np.ndarray:
    """The images of an Arrow column as a (N, height, width, channels) uint8 array; encoded ones decoded and scaled."""
    return decode_files(column, shape) if encoding == ENCODED else image_array(column, shape)


def image_array(column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int]) -> np.ndarray:
    """The raw images of an Arrow column as one (N, height, width, channels) uint8 array.

    A column of one chunk is not copied: the result is then a read-only view of Arrow's buffer.

    Raises UserError if an image has a different size.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_fixed_size_view(chunk, int(np.prod(shape))).reshape(-1, *shape) for chunk in chunks if len(chunk)]
    if not parts:
        return np.empty((0, *shape), np.uint8)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fixed_size_view(chunk: pa.BinaryArray, size: int) -> np.ndarray:
    """The bytes of all values, (N * size,) uint8, without a copy."""
    offset_type = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
    offsets = np.frombuffer(chunk.buffers()[1], offset_type)[chunk.offset : chunk.offset + len(chunk) + 1]
    lengths = np.diff(offsets)
    if (lengths != size).any():
        raise UserError(
            f"an image has {lengths[lengths != size][0]} bytes, {size} were expected: prepare the set again"
        )
    pixels = np.frombuffer(chunk.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    pixels.flags.writeable = False  # Arrow data is immutable, even if its buffer is not
    return pixels


def split_files(set_dir: Location, split: str) -> Sequence[Location]:
    """The Parquet files of one split, sorted by name; for a Delta table, those of its newest version.

    Raises UserError if there are none.
    """
    directory = split_directory(set_dir, split)
    rows = set_dir / ROWS_DIRECTORY
    if not is_delta(rows):
        return table_files(directory)
    files = sorted(file for file in delta_files(rows) if file.parent.name == f"{SPLIT}={split}")
    if not files:
        raise UserError(f"{directory} has no Parquet file: run the job that writes it again")
    return files


def read_columns(files: Sequence[Location], columns: Sequence[str]) -> pa.Table:
    """Columns of all rows, file by file. Raises UserError if a file is damaged or lacks a column."""
    tables = []
    for file in files:
        with open_parquet(file) as parquet:
            check_columns(parquet, columns, file=file)
            try:
                check_memory(parquet, columns, file=file)
                tables.append(parquet.read(list(columns)))
            except (OSError, ValueError, pa.ArrowException) as error:
                raise damaged(file, error) from None
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the files {files[0]} to {files[-1]} have different columns ({reason}): run the job that writes them again"
        ) from None
