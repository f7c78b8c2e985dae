"""The images of a user's own Parquet or Delta table: which column kinds are known, and their reading.

The image column (--image_column) holds one of

- a JPEG or PNG file's bytes, or a struct with such `bytes`, as Hugging Face's data sets have;
- uint8 pixels in row order, where the table has the columns height, width and channels;
- Spark's image struct (height, width, nChannels, data), whose colours go from blue to red.

Images are read by the tasks, some rows of a row group each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.data.image_files import BAD_IMAGE, check_image, decode
from longtail.data.sources.base import Shard
from longtail.data.storage import damaged, open_parquet

ROWS_PER_SHARD = 4096
ROWS_AT_ONCE = 256
SIZE_COLUMNS = ("height", "width", "channels")
_SPARK_FIELDS = ("height", "width", "nChannels", "data")
# OpenCV's orders of the channels, which Spark's images are in, as RGB and RGBA.
_FROM_OPENCV = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}


@dataclass(frozen=True)
class Layout:
    """How a table holds its images.

    columns: what is to be read for an image, the image column first
    shape: (height, width, channels) of every image; None where they are files
    """

    columns: tuple[str, ...]
    shape: tuple[int, int, int] | None
    is_spark_struct: bool = False
    is_struct_of_bytes: bool = False


@dataclass(frozen=True)
class Rows:
    """Some rows of one row group; first_row counts within it."""

    row_group: int
    first_row: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class RowShard(Shard):
    """Some rows of a file.

    decoded_size: files become pixels of this side; None leaves them as they are
    is_checked: a pass before this one decoded each image to the last pixel
    """

    rows: Rows
    layout: Layout
    skip_bad: bool
    decoded_size: int | None = None
    is_checked: bool = False


def row_ranges(group_sizes: Sequence[int]) -> Iterator[Rows]:
    """A file's rows in parts of ROWS_PER_SHARD; group_sizes: the rows of its row groups."""
    for row_group, size in enumerate(group_sizes):
        for first_row in range(0, size, ROWS_PER_SHARD):
            yield Rows(row_group, first_row, min(ROWS_PER_SHARD, size - first_row))


def row_group_sizes(parquet: pq.ParquetFile) -> list[int]:
    return [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]


def layout_of(file: Path, column: str) -> Layout:
    """Raises UserError if there is no such column, or if it is none of the known kinds."""
    with open_parquet(file) as parquet:
        names = parquet.schema_arrow.names
        if column not in names:
            raise UserError(f"{file} has no column {column!r}: it has {', '.join(names)}; name it with --image_column")
        kind = parquet.schema_arrow.field(column).type
        if pa.types.is_struct(kind):
            fields = {field.name for field in kind}
            if fields.issuperset(_SPARK_FIELDS):
                first = _first_row(parquet, [column], file)[column] or {}
                shape = tuple(first.get(key) for key in _SPARK_FIELDS[:3])
                return Layout((column,), _checked(shape, file), is_spark_struct=True)
            if "bytes" in fields:
                return Layout((column,), None, is_struct_of_bytes=True)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            if set(SIZE_COLUMNS) <= set(names):
                first = _first_row(parquet, list(SIZE_COLUMNS), file)
                return Layout((column, *SIZE_COLUMNS), _checked(tuple(first[key] for key in SIZE_COLUMNS), file))
            return Layout((column,), None)
    raise UserError(
        f"{file} has images of the type {kind} in {column!r}: bytes of a file or of pixels, a struct with `bytes`, or "
        f"Spark's image struct were expected"
    )


def images_of(shard: RowShard) -> tuple[np.ndarray, list[bytes]]:
    """Places (N,) int64 among the shard's rows, and the images there as they are stored in the set.

    Raises UserError at a bad image, unless the shard says to skip it.
    """
    places, contents = [], []
    for place, row in enumerate(_rows(shard)):
        try:
            content = _image(row, shard)
        except BAD_IMAGE as error:
            if shard.skip_bad:
                continue
            raise UserError(
                f"{shard.path}: the image of row {shard.rows.first_row + place} of row group {shard.rows.row_group} is "
                f"no whole one ({' '.join(str(error).split())}): mend it, or leave it out with --on_bad_image skip"
            ) from None
        places.append(place)
        contents.append(content)
    return np.array(places, np.int64), contents


def _first_row(parquet: pq.ParquetFile, columns: list[str], file: Path) -> dict:
    try:
        rows = next(parquet.iter_batches(1, columns=columns), None)
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, error) from None
    if rows is None:
        raise UserError(f"{file} has no row: leave it out")
    return rows.to_pylist()[0]


def _checked(shape: tuple[int, ...], file: Path) -> tuple[int, int, int]:
    if not all(isinstance(side, int) and side > 0 for side in shape) or shape[2] not in _FROM_OPENCV:
        raise UserError(f"{file} has a first image of height, width and channels {shape}: 1, 3 or 4 channels are known")
    return shape


def _rows(shard: RowShard) -> Iterator[dict]:
    """The image columns of the shard's rows. What lies before them in the row group is decompressed and passed over."""
    wanted = shard.rows
    end, place = wanted.first_row + wanted.num_rows, 0
    try:
        with open_parquet(shard.path) as parquet:
            for batch in parquet.iter_batches(ROWS_AT_ONCE, [wanted.row_group], columns=list(shard.layout.columns)):
                first = max(wanted.first_row - place, 0)
                yield from batch.slice(first, max(min(end - place, batch.num_rows) - first, 0)).to_pylist()
                place += batch.num_rows
                if place >= end:
                    return
    except (OSError, pa.ArrowException) as error:
        raise damaged(shard.path, error) from None


def _image(row: dict, shard: RowShard) -> bytes:
    """A row's image as it is stored in the set. Raises BAD_IMAGE."""
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
