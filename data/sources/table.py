"""Any Parquet or Delta table with an image and a label column: --dataset table --path TABLE.

The image column (--image_column) holds one of

- a JPEG or PNG file's bytes, or a struct with such `bytes`, as Hugging Face's data sets have;
- uint8 pixels in row order, where the table has the columns height, width and channels;
- Spark's image struct (height, width, nChannels, data), whose colours go from blue to red.

Labels (--label_column) are the numbers 0, 1, ... of the classes, or their names, numbered as they sort; the column may
be a directory's name (label=cat/). The driver reads the label column alone; images are read by the tasks, some rows of
a row group each. --test_path names a table of test images; without it --test_fraction of each class is drawn by a hash
of the row's place, so that the share is exact and the same for everybody.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from conf.errors import UserError
from conf.options.data import DataOptions
from data.contract import ENCODED, RAW, SOURCE_SCHEMA, TEST, TRAIN
from data.image_files import BAD_IMAGE, CHANNELS, check_image
from data.longtail import validation_counts
from data.sources.base import Located, Shard
from data.storage import damaged, open_parquet, table_files

ROWS_PER_SHARD = 4096
ROWS_AT_ONCE = 256
SIZE_COLUMNS = ("height", "width", "channels")
_SPARK_FIELDS = ("height", "width", "nChannels", "data")
# OpenCV's orders of the channels, which Spark's images are in, as RGB and RGBA.
_FROM_OPENCV = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
READERS = 8


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
class TableShard(Shard):
    """Some rows of one row group.

    row_group, first_row, num_rows: which; first_row counts within the row group
    labels: (num_rows,) int32
    is_checked: a pass before this one decoded each image to the last pixel
    test_limits: (num_classes,) uint64: a row whose hash lies below its class's is a test image; None: none is
    """

    row_group: int
    first_row: int
    num_rows: int
    labels: np.ndarray
    layout: Layout
    test_limits: np.ndarray | None
    seed: int
    skip_bad: bool
    is_checked: bool = False


@dataclass(frozen=True)
class _Labels:
    """Of one file: the rows of its row groups, and the label of each row as a place in ``names``."""

    file: Path
    group_sizes: list[int]
    codes: np.ndarray
    names: list[int] | list[str]


def locate(options: DataOptions) -> Located:
    assert options.path is not None
    train = _labels_of(options.path, options)
    names = _class_names(train, options.path, options.label_column)
    layout = _layout(train[0].file, options)
    labels = _as_classes(train, names, options.path)
    limits, origin = None, f"table {options.path.name}"
    if options.test_path is None:
        limits = _test_limits(labels, options, num_classes=len(names))
        origin += f", test set: {options.test_fraction:g} of each class"
    shards = list(_shards(train, labels, TRAIN, layout, limits, options, first_id=0))
    if options.test_path is not None:
        test = _labels_of(options.test_path, options)
        if (of_test := _layout(test[0].file, options)) != layout:
            raise UserError(f"{options.test_path} has images as {of_test}, {options.path} as {layout}: make them alike")
        test_labels = _as_classes(test, names, options.test_path)
        shards += _shards(test, test_labels, TEST, layout, None, options, first_id=len(labels))
    return Located(
        shards=shards,
        origin=origin,
        class_names=[str(name) for name in names],
        image_shape=layout.shape or (options.image_size, options.image_size, CHANNELS),
        encoding=RAW if layout.shape else ENCODED,
        num_images=sum(shard.num_rows for shard in shards),
    )


def read(shard: TableShard) -> pa.RecordBatch:
    """The shard's rows. Raises UserError at a bad image, unless the shard says to skip it."""
    places, contents = [], []
    for place, row in enumerate(_rows(shard)):
        try:
            content = _image(row, shard)
        except BAD_IMAGE as error:
            if shard.skip_bad:
                continue
            raise UserError(
                f"{shard.path}: the image of row {shard.first_row + place} of row group {shard.row_group} is no whole "
                f"one ({' '.join(str(error).split())}): mend it, or leave it out with --on_bad_image skip"
            ) from None
        places.append(place)
        contents.append(content)
    chosen = np.array(places, np.int64)
    ids, labels = shard.first_id + chosen, shard.labels[chosen]
    splits = np.full(len(ids), shard.split, dtype=object)
    if shard.test_limits is not None:
        splits[_hashes(ids, shard.seed) < shard.test_limits[labels]] = TEST
    columns = [pa.array(ids), pa.array(contents, pa.binary()), pa.array(labels), pa.array(splits, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def _labels_of(table: Path, options: DataOptions) -> list[_Labels]:
    files = table_files(table)
    with ThreadPoolExecutor(READERS) as threads:
        return [found for found in threads.map(lambda file: _labels_of_file(file, options), files) if len(found.codes)]


def _labels_of_file(file: Path, options: DataOptions) -> _Labels:
    name = options.label_column
    with open_parquet(file) as parquet:
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        missing = [column for column in (options.image_column, name) if column not in parquet.schema_arrow.names]
        directory = _directory_value(file, name)
        if missing == [name] and directory is not None:
            return _Labels(file, sizes, np.zeros(sum(sizes), np.int32), [directory])
        if missing:
            raise UserError(
                f"{file} has no column {missing[0]!r}: it has {', '.join(parquet.schema_arrow.names)}; name the "
                f"columns with --image_column and --label_column"
            )
        kind = parquet.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"{file} has labels of the type {kind}: integers or strings were expected")
        try:
            column = parquet.read([name]).column(name)
        except (OSError, pa.ArrowException) as error:
            raise damaged(file, error) from None
    if column.null_count:
        raise UserError(f"{file} has {column.null_count} rows without a label: fill or remove them")
    coded = pc.dictionary_encode(column.cast(kind)).unify_dictionaries().combine_chunks()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    return _Labels(file, sizes, coded.indices.to_numpy().astype(np.int32), coded.dictionary.to_pylist())


def _directory_value(file: Path, column: str) -> int | str | None:
    """The label that a directory's name (column=value) gives to its files."""
    for part in PurePath(file).parts[:-1]:
        name, is_value, value = part.partition("=")
        if is_value and name == column:
            return int(value) if value.isascii() and value.isdigit() else unquote(value)
    return None


def _class_names(parts: Sequence[_Labels], table: Path, column: str) -> list[int] | list[str]:
    """The classes by number. Raises UserError if numbers are missing, or if there are not two classes."""
    found = {name for part in parts for name in part.names}
    if len({type(name) for name in found}) > 1:
        raise UserError(f"{table} has numbers and names as labels in {column!r}: one of the two was expected")
    names = sorted(found)
    if len(names) < 2:
        raise UserError(f"{table} has {len(names)} classes in {column!r}: at least two are needed")
    if isinstance(names[0], int):
        if names[0] < 0:
            raise UserError(f"{table} has the label {names[0]} in {column!r}: labels count from 0")
        empty = next((number for number, name in enumerate(names) if number != name), None)
        if empty is not None:
            raise UserError(
                f"{table} has no image of the class {empty}, its labels go to {names[-1]}: number the classes from 0 on"
            )
    return names


def _as_classes(parts: Sequence[_Labels], names: Sequence[int | str], table: Path) -> np.ndarray:
    """(N,) int32 class of each row, file after file."""
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := sorted({name for part in parts for name in part.names} - numbers.keys(), key=str):
        raise UserError(f"{table} has the label {unknown[0]!r}, which no training image has: remove those rows")
    return np.concatenate([np.array([numbers[name] for name in part.names], np.int32)[part.codes] for part in parts])


def _layout(file: Path, options: DataOptions) -> Layout:
    """Raises UserError if the image column is none of the known kinds."""
    name = options.image_column
    with open_parquet(file) as parquet:
        kind = parquet.schema_arrow.field(name).type
        names = parquet.schema_arrow.names
        if pa.types.is_struct(kind):
            fields = {field.name for field in kind}
            if fields.issuperset(_SPARK_FIELDS):
                first = _first_row(parquet, [name], file)[name] or {}
                shape = tuple(first.get(key) for key in _SPARK_FIELDS[:3])
                return Layout((name,), _checked(shape, file), is_spark_struct=True)
            if "bytes" in fields:
                return Layout((name,), None, is_struct_of_bytes=True)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            if set(SIZE_COLUMNS) <= set(names):
                first = _first_row(parquet, list(SIZE_COLUMNS), file)
                return Layout((name, *SIZE_COLUMNS), _checked(tuple(first[key] for key in SIZE_COLUMNS), file))
            return Layout((name,), None)
    raise UserError(
        f"{file} has images of the type {kind} in {name!r}: bytes of a file or of pixels, a struct with `bytes`, or "
        f"Spark's image struct were expected"
    )


def _first_row(parquet: pq.ParquetFile, columns: list[str], file: Path) -> dict:
    try:
        return next(parquet.iter_batches(1, columns=columns)).to_pylist()[0]
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, error) from None


def _checked(shape: tuple[int, ...], file: Path) -> tuple[int, int, int]:
    if not all(isinstance(side, int) and side > 0 for side in shape) or shape[2] not in _FROM_OPENCV:
        raise UserError(f"{file} has a first image of height, width and channels {shape}: 1, 3 or 4 channels are known")
    return shape


def _test_limits(labels: np.ndarray, options: DataOptions, *, num_classes: int) -> np.ndarray:
    """(num_classes,) uint64: as many hashes of a class lie below its limit as it has test images.

    Hashes of different places differ, so the share is exact.
    """
    counts = np.bincount(labels, minlength=num_classes)
    wanted = np.array(validation_counts(counts.tolist(), val_fraction=options.test_fraction))
    if not wanted.any():
        raise UserError(f"{options.path} leaves no image for the test set: a class of two images is needed")
    hashes = _hashes(np.arange(len(labels)), options.rand_number)
    in_order = hashes[np.lexsort((hashes, labels))]  # class after class
    return in_order[np.cumsum(counts) - counts + wanted]


def _hashes(ids: np.ndarray, seed: int) -> np.ndarray:
    """(N,) uint64, different for different ids: the mixing of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _shards(
    parts: Sequence[_Labels],
    labels: np.ndarray,
    split: str,
    layout: Layout,
    limits: np.ndarray | None,
    options: DataOptions,
    *,
    first_id: int,
) -> Iterator[TableShard]:
    place = index = 0
    for part in parts:
        for row_group, size in enumerate(part.group_sizes):
            for first_row in range(0, size, ROWS_PER_SHARD):
                num_rows = min(ROWS_PER_SHARD, size - first_row)
                yield TableShard(
                    part.file, split, index, first_id + place, row_group, first_row, num_rows,
                    labels[place : place + num_rows], layout, limits, options.rand_number,
                    options.on_bad_image == "skip",
                )  # fmt: skip
                place += num_rows
                index += 1


def _rows(shard: TableShard) -> Iterator[dict]:
    """The image columns of the shard's rows. What lies before them in the row group is decompressed and passed over."""
    end, place = shard.first_row + shard.num_rows, 0
    try:
        with open_parquet(shard.path) as parquet:
            for batch in parquet.iter_batches(ROWS_AT_ONCE, [shard.row_group], columns=list(shard.layout.columns)):
                first = max(shard.first_row - place, 0)
                yield from batch.slice(first, max(min(end - place, batch.num_rows) - first, 0)).to_pylist()
                place += batch.num_rows
                if place >= end:
                    return
    except (OSError, pa.ArrowException) as error:
        raise damaged(shard.path, error) from None


def _image(row: dict, shard: TableShard) -> bytes:
    """A row's image as it is stored in the set. Raises BAD_IMAGE."""
    layout = shard.layout
    value = row[layout.columns[0]]
    if layout.is_struct_of_bytes:
        value = value and value["bytes"]
    if value is None:
        raise ValueError("it is null")
    if layout.shape is None:
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
