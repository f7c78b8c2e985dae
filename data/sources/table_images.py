"""Images in a Parquet or Delta table of the user's: the known layouts of the image column, and their reading.

The image column (--image_column) contains one of

- a JPEG or PNG file's bytes, or a struct with such `bytes`, as Hugging Face's data sets have;
- uint8 pixels in row order, where the table has the columns height, width and channels;
- Spark's image struct (height, width, nChannels, data), whose channels are in the order blue, green, red.

Each task reads some rows of one row group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.data.contract import skipped_image
from longtail.data.image_files import BAD_IMAGE, check_image, decode
from longtail.data.sources.base import UserImageShard
from longtail.data.storage import damaged, open_parquet

ROWS_PER_SHARD = 4096
ROWS_AT_ONCE = 256
SIZE_COLUMNS = ("height", "width", "channels")
_SPARK_FIELDS = ("height", "width", "nChannels", "data")
# Spark's images have OpenCV's order of channels: the indices that give RGB and RGBA.
_FROM_OPENCV = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}


@dataclass(frozen=True)
class Layout:
    """How a table stores its images.

    columns: to read for an image, the image column first
    shape: (height, width, channels) of every image; None if they are files
    """

    columns: tuple[str, ...]
    shape: tuple[int, int, int] | None
    is_spark_struct: bool = False
    is_struct_of_bytes: bool = False


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of one row group; first_row is relative to it."""

    row_group: int
    first_row: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class RowShard(UserImageShard):
    """Rows of a table's file that one task reads.

    decoded_size: side in pixels to which files are decoded; None: they are stored unchanged
    """

    rows: Rows
    layout: Layout
    decoded_size: int | None = None


def row_ranges(group_sizes: Sequence[int]) -> Iterator[Rows]:
    """A file's rows in parts of at most ROWS_PER_SHARD; group_sizes: number of rows of its row groups."""
    for row_group, size in enumerate(group_sizes):
        for first_row in range(0, size, ROWS_PER_SHARD):
            yield Rows(row_group, first_row, min(ROWS_PER_SHARD, size - first_row))


def row_group_sizes(parquet: pq.ParquetFile) -> list[int]:
    """Number of rows of each row group."""
    return [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]


def layout_of(file: Path, column: str) -> Layout:
    """The layout of a file's image column. Raises UserError if there is no such column, or its layout is unknown."""
    with open_parquet(file) as parquet:
        names = parquet.schema_arrow.names
        if column not in names:
            raise UserError(f"{file} has no column {column!r}: it has {', '.join(names)}; name it with --image_column")
        kind = parquet.schema_arrow.field(column).type
        if pa.types.is_struct(kind):
            fields = {field.name for field in kind}
            if fields.issuperset(_SPARK_FIELDS):
                first = _first_row(parquet, [column], file)[column] or {}
                shape = [first.get(key) for key in _SPARK_FIELDS[:3]]
                return Layout((column,), _checked(shape, file), is_spark_struct=True)
            if "bytes" in fields:
                return Layout((column,), None, is_struct_of_bytes=True)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            if set(SIZE_COLUMNS) <= set(names):
                first = _first_row(parquet, list(SIZE_COLUMNS), file)
                return Layout((column, *SIZE_COLUMNS), _checked([first[key] for key in SIZE_COLUMNS], file))
            return Layout((column,), None)
    raise UserError(
        f"{file} has images of the type {kind} in {column!r}: bytes of a file or of pixels, a struct with `bytes`, or "
        f"Spark's image struct were expected"
    )


def read_stored_images(shard: RowShard) -> tuple[list[bytes], np.ndarray]:
    """IMAGE (N,) of the shard's rows as the prepared set stores it, and whether each was left out (N,) bool.

    Raises UserError at a bad image, unless the shard skips bad ones.
    """
    contents: list[bytes] = []
    is_skipped = np.zeros(shard.rows.num_rows, bool)
    for index, row in enumerate(_rows(shard)):
        try:
            contents.append(_image(row, shard))
        except BAD_IMAGE as error:
            name = f"row {shard.rows.first_row + index} of row group {shard.rows.row_group}"
            reason = " ".join(str(error).split())
            if not shard.skip_bad:
                raise UserError(
                    f"{shard.path}: the image of {name} cannot be decoded ({reason}): repair it, or skip it with "
                    f"--on_bad_image skip"
                ) from None
            contents.append(skipped_image(f"{shard.path}: {name}", reason))
            is_skipped[index] = True
    return contents, is_skipped


def _first_row(parquet: pq.ParquetFile, columns: list[str], file: Path) -> dict[str, Any]:
    try:
        rows = next(parquet.iter_batches(1, columns=columns), None)
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, error) from None
    if rows is None:
        raise UserError(f"{file} has no row: leave it out")
    return rows.to_pylist()[0]


def _checked(shape: Sequence[int | None], file: Path) -> tuple[int, int, int]:
    height, width, channels = shape
    if not height or not width or min(height, width) < 0 or channels not in _FROM_OPENCV:
        raise UserError(
            f"{file} has a first image of height, width and channels {tuple(shape)}: 1, 3 or 4 channels were expected"
        )
    return height, width, channels


def _rows(shard: RowShard) -> Iterator[dict[str, Any]]:
    """The image columns of the shard's rows. Rows before them in the row group are decompressed and skipped."""
    wanted = shard.rows
    end, position = wanted.first_row + wanted.num_rows, 0
    try:
        with open_parquet(shard.path) as parquet:
            for batch in parquet.iter_batches(ROWS_AT_ONCE, [wanted.row_group], columns=list(shard.layout.columns)):
                first = max(wanted.first_row - position, 0)
                yield from batch.slice(first, max(min(end - position, batch.num_rows) - first, 0)).to_pylist()
                position += batch.num_rows
                if position >= end:
                    return
    except (OSError, pa.ArrowException) as error:
        raise damaged(shard.path, error) from None


def _image(row: dict[str, Any], shard: RowShard) -> bytes:
    """A row's image as the prepared set stores it. Raises BAD_IMAGE."""
    layout = shard.layout
    value = row[layout.columns[0]]
    if layout.is_struct_of_bytes:
        value = value and value["bytes"]
    if value is None:
        raise ValueError("it is null")
    if layout.shape is None:
        if shard.decoded_size is not None:
            return decode(value, shard.decoded_size).tobytes()
        if not shard.is_checked:
            check_image(value)
        return value
    if layout.is_spark_struct:
        shape, pixels = (value["height"], value["width"], value["nChannels"]), value["data"]
    else:
        shape, pixels = tuple(row[name] for name in SIZE_COLUMNS), value
    if shape != layout.shape or len(pixels) != np.prod(layout.shape):
        raise ValueError(f"{len(pixels)} bytes of {shape}, all images must be of {layout.shape}")
    if layout.is_spark_struct:
        return np.frombuffer(pixels, np.uint8).reshape(shape)[..., _FROM_OPENCV[shape[2]]].tobytes()
    return pixels
