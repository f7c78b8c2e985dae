"""Images in a Parquet or Delta table of the user's: the known layouts of the image column, and their reading.

The image column (--image_column) contains one of

- an image file's bytes, or a struct with such `bytes`, as Hugging Face's data sets have;
- uint8 pixels in row order, where the table has the columns height, width and channels and the first image has as many
  bytes;
- Spark's image struct (height, width, nChannels, data), whose channels are in the order blue, green, red.

Each task reads some rows of one row group.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import rows_at_once
from longtail.data.byte_columns import lengths_of_bytes
from longtail.data.contract import skipped_image
from longtail.data.image_files import BAD_IMAGE, begins_as_file, decode
from longtail.data.sources.base import UserImageShard
from longtail.data.storage import damaged, open_parquet

ROWS_PER_SHARD = 4096
ROWS_AT_ONCE = 256
BYTES_AT_ONCE = 4 * 2**20
ROWS_TO_LOOK_AT = 16
SIZE_COLUMNS = ("height", "width", "channels")
_SHAPE_FIELDS = ("height", "width", "nChannels")
SPARK_FIELDS = (*_SHAPE_FIELDS, "data")
_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
BYTES, STRUCTS_OF_BYTES, SPARK_STRUCTS = "bytes", "structs with `bytes`", "Spark's image structs"
"""What an image column has, in the words of messages."""
FROM_OPENCV = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
"""Spark's images have OpenCV's order of channels: by their number, the indices that give grey, RGB and RGBA."""


@dataclass(frozen=True)
class Layout:
    """How a table stores its images.

    columns: to read for an image, the image column first
    shape: (height, width, channels) of every image; None if they are files
    kind: BYTES, STRUCTS_OF_BYTES or SPARK_STRUCTS
    """

    columns: tuple[str, ...]
    shape: tuple[int, int, int] | None
    kind: str


@dataclass(frozen=True)
class RowRange:
    """Consecutive rows of one row group; first_row is relative to it."""

    row_group: int
    first_row: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class RowShard(UserImageShard):
    """Rows of a table's file that one task reads.

    decoded_size: side in pixels to which files are decoded; None: they are stored unchanged
    """

    rows: RowRange
    layout: Layout
    decoded_size: int | None = None

    def image_name(self, index: int) -> str:
        """The row in the file."""
        return f"{self.path.name}, row group {self.rows.row_group}, row {self.rows.first_row + index}"


def row_ranges(group_sizes: Sequence[int]) -> Iterator[RowRange]:
    """A file's rows in parts of at most ROWS_PER_SHARD; group_sizes: number of rows of its row groups."""
    for row_group, size in enumerate(group_sizes):
        for first_row in range(0, size, ROWS_PER_SHARD):
            yield RowRange(row_group, first_row, min(ROWS_PER_SHARD, size - first_row))


def row_group_sizes(parquet: pq.ParquetFile) -> list[int]:
    """Number of rows of each row group."""
    return [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]


def layout_of(files: Sequence[Location], column: str) -> Layout:
    """The layout of the image column of a table's files, by its type and the first image.

    Raises UserError if there is no such column, if its layout is unknown, or if there is no image at all.
    """
    with open_parquet(files[0]) as parquet:
        schema = parquet.schema_arrow
    check_has_columns(schema, [column], files[0], remedy="name it with --image_column")
    kind = _kind(schema, column)
    if kind == SPARK_STRUCTS:
        first = _first_image(files, [f"{column}.{name}" for name in SPARK_FIELDS], column)[column]
        return Layout((column,), _checked([first[name] for name in _SHAPE_FIELDS], files[0]), kind)
    if kind == BYTES and set(SIZE_COLUMNS) <= set(schema.names):
        check_has_columns(schema, SIZE_COLUMNS, files[0])
        if other := [name for name in SIZE_COLUMNS if not pa.types.is_integer(schema.field(name).type)]:
            raise UserError(f"{files[0]} has {schema.field(other[0]).type} in {other[0]!r}: integers were expected")
        first = _first_image(files, [column, *SIZE_COLUMNS], column, is_sure=_is_file_or_pixels)
        if not begins_as_file(first[column]) or _is_pixels(first, column):
            return Layout((column, *SIZE_COLUMNS), _checked([first[name] for name in SIZE_COLUMNS], files[0]), kind)
    if kind in (BYTES, STRUCTS_OF_BYTES):
        return Layout((column,), None, kind)
    raise UserError(
        f"{files[0]} has images of the type {kind} in {column!r}: bytes of a file or of pixels, a struct with `bytes`, "
        f"or Spark's image struct were expected"
    )


def _kind(schema: pa.Schema, column: str) -> str:
    """What the image column has: one of the three kinds, or the name of another type."""
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_struct(kind):
        fields = {field.name for field in kind}
        if fields.issuperset(SPARK_FIELDS):
            return SPARK_STRUCTS
        if "bytes" in fields:
            return STRUCTS_OF_BYTES
    return BYTES if any(is_bytes(kind) for is_bytes in _BYTES) else str(kind)


def check_has_columns(
    schema: pa.Schema,
    columns: Sequence[str],
    file: Location,
    *,
    remedy: str = "name the columns with --image_column and --label_column",
) -> None:
    """Raise UserError unless a user's table has each of the columns once. remedy: clause for a missing one"""
    for name in columns:
        if name not in schema.names:
            raise UserError(f"{file} has no column {name!r}: it has {', '.join(schema.names)}; {remedy}")
        if schema.names.count(name) > 1:
            raise UserError(f"{file} has {schema.names.count(name)} columns {name!r}: give each a name of its own")


def read_stored_images(shard: RowShard) -> tuple[pa.BinaryArray, np.ndarray]:
    """IMAGE (N,) of the shard's rows as the prepared set stores it, and whether each was left out (N,) bool.

    Raises UserError at a bad image, unless the shard skips bad ones.
    """
    parts: list[pa.BinaryArray] = []
    is_skipped = np.zeros(shard.rows.num_rows, bool)
    num_rows = 0
    for batch in _batches(shard):
        pixels = _pixels(batch, shard.layout)
        if pixels is None:
            pixels = pa.array(_images(batch, shard, num_rows, is_skipped), pa.binary())
        parts.append(pixels)
        num_rows += batch.num_rows
    if num_rows != shard.rows.num_rows:
        raise damaged(shard.path, ValueError(f"a row group has {num_rows} of {shard.rows.num_rows} images"))
    return pa.concat_arrays(parts), is_skipped


def _pixels(batch: pa.RecordBatch, layout: Layout) -> pa.BinaryArray | None:
    """The column of images, if all are pixels that can be stored unchanged; else None: each must be looked at."""
    images = batch.column(0)
    if layout.shape is None or layout.kind != BYTES or images.type != pa.binary() or images.null_count:
        return None
    sizes = [batch.column(name) for name in SIZE_COLUMNS]
    if any(of_all.null_count for of_all in sizes):
        return None
    is_same = all((of_all.to_numpy() == size).all() for of_all, size in zip(sizes, layout.shape, strict=True))
    return images if is_same and (lengths_of_bytes(images) == math.prod(layout.shape)).all() else None


def _images(batch: pa.RecordBatch, shard: RowShard, first: int, is_skipped: np.ndarray) -> Iterator[bytes]:
    """IMAGE of each row. first: the index of the first in the shard; is_skipped: of the shard, for those left out"""
    for index, row in enumerate(batch.to_pylist(), first):
        try:
            yield _image(row, shard)
        except BAD_IMAGE as error:
            name = f"row {shard.rows.first_row + index} of row group {shard.rows.row_group}"
            reason = " ".join(str(error).split())
            if not shard.skip_bad:
                raise UserError(
                    f"{shard.path}: the image of {name} cannot be decoded ({reason}): repair it, or skip it with "
                    f"--on_bad_image skip"
                ) from None
            is_skipped[index] = True
            yield skipped_image(f"{shard.path}: {name}", reason)


def _first_image(
    files: Sequence[Location],
    columns: list[str],
    image_column: str,
    *,
    is_sure: Callable[[dict[str, Any], str], bool] = lambda row, image_column: True,
) -> dict[str, Any]:
    """The columns of the first row that has an image and is_sure, else of the first that has an image.

    Raises UserError if none has.
    """
    unsure = None
    for file in files:
        try:
            with open_parquet(file) as parquet:
                for row in _first_rows(parquet, columns, file):
                    if _is_image(row[image_column]):
                        if is_sure(row, image_column):
                            return row
                        unsure = unsure or row
        except (OSError, ValueError, pa.ArrowException) as error:
            raise damaged(file, error) from None
    if unsure is not None:
        return unsure
    raise UserError(
        f"{files[0]} has no image in {image_column!r}: leave it out, or name the column with --image_column"
    )


def _first_rows(parquet: pq.ParquetFile, columns: list[str], file: Location) -> Iterator[dict[str, Any]]:
    """All rows, a few at once."""
    for group in range(parquet.num_row_groups):
        num_rows = rows_at_once(parquet, columns, file=file, group=group, most=ROWS_TO_LOOK_AT)
        for batch in parquet.iter_batches(num_rows, [group], columns=columns):
            yield from batch.to_pylist()


def _is_image(value: bytes | dict[str, Any] | None) -> bool:
    """Whether a value is not null, nor what Spark has in place of a file that it cannot decode."""
    return value is not None and (isinstance(value, bytes) or (value["height"] or 0) > 0)


def _is_file_or_pixels(row: dict[str, Any], image_column: str) -> bool:
    """Whether a row's bytes are for sure one of both, and not a damaged image."""
    return _is_pixels(row, image_column) or begins_as_file(row[image_column])


def _is_pixels(row: dict[str, Any], image_column: str) -> bool:
    shape = [row[name] for name in SIZE_COLUMNS]
    return None not in shape and len(row[image_column]) == np.prod(shape, dtype=object)


def _checked(shape: Sequence[int | None], file: Location) -> tuple[int, int, int]:
    height, width, channels = shape
    if not height or not width or min(height, width) < 0 or channels not in FROM_OPENCV:
        raise UserError(
            f"{file} has a first image of height, width and channels {tuple(shape)}: 1, 3 or 4 channels were expected"
        )
    return height, width, channels


def _batches(shard: RowShard) -> Iterator[pa.RecordBatch]:
    """The columns of the shard's images. Rows before them in the row group are decompressed and skipped."""
    wanted = shard.rows
    end, position = wanted.first_row + wanted.num_rows, 0
    columns = list(shard.layout.columns)
    most = ROWS_AT_ONCE
    if shard.layout.shape is not None:
        most = max(1, min(ROWS_PER_SHARD, BYTES_AT_ONCE // int(np.prod(shard.layout.shape))))
    try:
        with open_parquet(shard.path) as parquet:
            check_has_columns(parquet.schema_arrow, columns, shard.path, remedy="use the same columns in all files")
            if (kind := _kind(parquet.schema_arrow, columns[0])) != shard.layout.kind:
                raise UserError(
                    f"{shard.path} has {kind} in {columns[0]!r}, other files have {shard.layout.kind}: use one form in "
                    f"all files"
                )
            num_rows = rows_at_once(parquet, columns, file=shard.path, group=wanted.row_group, most=most)
            for batch in parquet.iter_batches(num_rows, [wanted.row_group], columns=columns):
                first = max(wanted.first_row - position, 0)
                if num_wanted := max(min(end - position, batch.num_rows) - first, 0):
                    yield batch.select(columns).slice(first, num_wanted)
                position += batch.num_rows
                if position >= end:
                    return
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(shard.path, error) from None


def _image(row: dict[str, Any], shard: RowShard) -> bytes:
    """A row's image as the prepared set stores it. Raises BAD_IMAGE."""
    layout = shard.layout
    value = row[layout.columns[0]]
    if layout.kind == STRUCTS_OF_BYTES:
        value = value and value["bytes"]
    if value is None:
        raise ValueError("it is null")
    if layout.shape is None:
        if shard.decoded_size is not None:
            return decode(value, shard.decoded_size).tobytes()
        if shard.check is not None:
            shard.check(value)
        return value
    if layout.kind == SPARK_STRUCTS:
        if not _is_image(value):
            raise ValueError("Spark could not decode it")
        shape, pixels = tuple(value[name] for name in _SHAPE_FIELDS), value["data"] or b""
    else:
        shape, pixels = tuple(row[name] for name in SIZE_COLUMNS), value
    if shape != layout.shape or len(pixels) != np.prod(layout.shape):
        raise ValueError(f"{len(pixels)} bytes of {shape}, all images must be of {layout.shape}")
    if layout.kind == SPARK_STRUCTS:
        return np.frombuffer(pixels, np.uint8).reshape(shape)[..., FROM_OPENCV[shape[2]]].tobytes()
    return pixels
