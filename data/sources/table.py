"""Any Parquet or Delta table with an image and a label column: --dataset table --path TABLE.

The image column (--image_column) is one of those that table_images.py reads. Labels (--label_column) are class
indices 0, 1, ... or class names, which are numbered in sorted order; the column may be a directory name (label=cat/).
The driver reads the label column alone. --test_path and --val_path name tables of test and validation images; without
the former, --test_fraction of each class is drawn by a hash of the row's index, so that the share is exact and
reproducible.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.contract import ENCODED, RAW, SKIPPED, SOURCE_SCHEMA
from longtail.data.image_files import CHANNELS
from longtail.data.longtail import validation_counts
from longtail.data.sources.base import Located
from longtail.data.sources.table_images import (
    Layout,
    RowShard,
    layout_of,
    read_stored_images,
    row_group_sizes,
    row_ranges,
)
from longtail.data.storage import damaged, open_parquet, table_files

READERS = 8


@dataclass(frozen=True, kw_only=True)
class TableShard(RowShard):
    """Rows with labels.

    labels: (num_rows,) int32
    test_limits: (num_classes,) uint64; a row with a hash below the limit of its class is a test image; None: none is
    seed: of the hash
    """

    labels: np.ndarray
    test_limits: np.ndarray | None
    seed: int


@dataclass(frozen=True)
class _Labels:
    """Of one file: number of rows of its row groups, and for each row the index of its label in ``names``."""

    file: Path
    group_sizes: list[int]
    codes: np.ndarray
    names: list[int | str]


def locate(options: DataOptions) -> Located:
    assert options.path is not None
    train = _labels_of(options.path, options)
    names = _class_names(train, options.path, options.label_column)
    layout = layout_of(train[0].file, options.image_column)
    labels = _as_classes(train, names, options.path)
    limits, origin = None, f"table {options.path.name}"
    if options.test_path is None:
        limits = _test_limits(labels, options, num_classes=len(names))
        origin += f", test set: {options.test_fraction:g} of each class"
    shards = list(_shards(train, labels, TRAIN, layout, limits, options, first_id=0))
    first_id = len(labels)
    for split, path in ((TEST, options.test_path), (VAL, options.val_path)):
        if path is not None:
            parts = _labels_of(path, options)
            if not parts:
                raise UserError(f"{path} has no row: name another table")
            if (other := layout_of(parts[0].file, options.image_column)) != layout:
                raise UserError(f"{path} has images as {other}, {options.path} as {layout}: make them alike")
            of_split = _as_classes(parts, names, path)
            shards += _shards(parts, of_split, split, layout, None, options, first_id=first_id)
            first_id += len(of_split)
    return Located(
        shards=shards,
        origin=origin,
        class_names=[str(name) for name in names],
        image_shape=layout.shape or (options.image_size, options.image_size, CHANNELS),
        encoding=RAW if layout.shape else ENCODED,
    )


def read(shard: TableShard) -> pa.RecordBatch:
    """The shard's rows. Raises UserError as read_stored_images does."""
    contents, is_skipped = read_stored_images(shard)
    ids = shard.first_id + np.arange(len(contents))
    splits = np.full(len(ids), shard.split, dtype=object)
    if shard.test_limits is not None:
        splits[_hashes(ids, shard.seed) < shard.test_limits[shard.labels]] = TEST
    splits[is_skipped] = SKIPPED
    columns = [pa.array(ids), pa.array(contents, pa.binary()), pa.array(shard.labels), pa.array(splits, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def _labels_of(table: Path, options: DataOptions) -> list[_Labels]:
    files = table_files(table)
    with ThreadPoolExecutor(READERS) as threads:
        return [found for found in threads.map(lambda file: _labels_of_file(file, options), files) if len(found.codes)]


def _labels_of_file(file: Path, options: DataOptions) -> _Labels:
    name = options.label_column
    with open_parquet(file) as parquet:
        sizes = row_group_sizes(parquet)
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


def _class_names(parts: Sequence[_Labels], table: Path, column: str) -> list[int | str]:
    """Labels by class index. Raises UserError if numbers are missing, or if there are fewer than two classes."""
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


def _test_limits(labels: np.ndarray, options: DataOptions, *, num_classes: int) -> np.ndarray:
    """(num_classes,) uint64: as many hashes of a class are below its limit as it has test images.

    Hashes of different rows differ, so that the share is exact.
    """
    counts = np.bincount(labels, minlength=num_classes)
    wanted = np.array(validation_counts(counts.tolist(), val_fraction=options.test_fraction))
    if not wanted.any():
        raise UserError(f"{options.path} has no image for the test set: at least one class of two images is needed")
    hashes = _hashes(np.arange(len(labels)), options.rand_number)
    in_order = hashes[np.lexsort((hashes, labels))]  # class by class
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
    first = index = 0
    for part in parts:
        for rows in row_ranges(part.group_sizes):
            yield TableShard(
                part.file, split, index, first_id + first, rows=rows, layout=layout,
                skip_bad=options.on_bad_image == "skip", labels=labels[first : first + rows.num_rows],
                test_limits=limits, seed=options.rand_number,
            )  # fmt: skip
            first += rows.num_rows
            index += 1
