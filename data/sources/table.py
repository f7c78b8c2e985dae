"""Any Parquet or Delta table with an image and a label column: --dataset table --path TABLE.

The image column (--image_column) is one of those that table_images.py reads. Labels (--label_column) are numbers from 0
on, with or without gaps, or names; classes are in their order. The column may be a directory name (label=cat/): the
directories are numbers if all are, else names.
The driver reads the label column alone. --test_path and --val_path name tables of test and validation images; without
the former, --test_fraction of each class is drawn by a hash of the row's index, so that the share is exact and
reproducible.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import check_class_names, class_name_of, remark_on_case
from longtail.conf.base.parquet_sizes import check_memory
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.contract import ENCODED, RAW, SKIPPED, SOURCE_SCHEMA
from longtail.data.image_files import CHANNELS
from longtail.data.longtail import validation_counts
from longtail.data.sources.base import Located
from longtail.data.sources.table_images import (
    Layout,
    RowShard,
    check_has_columns,
    layout_of,
    read_stored_images,
    row_group_sizes,
    row_ranges,
)
from longtail.data.storage import damaged, open_parquet, table_files

READERS = 8
_ROLES = {TRAIN: "", TEST: "test set ", VAL: "validation set "}
_LABEL_TYPES = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_NULL_DIRECTORY = "__HIVE_DEFAULT_PARTITION__"
"""What Spark and Hive write for a null, or an empty text, in a column of directories."""


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
    """Of one file: number of rows of its row groups, and for each row the index of its label in ``names``.

    is_directory: the label is the name of a directory, so that whether it is a number must be decided
    """

    file: Location
    group_sizes: list[int]
    codes: np.ndarray
    names: list[int | str]
    is_directory: bool = False

    def with_directory_as(self, by_number: bool) -> "_Labels":
        """The labels with those of directories as numbers; as they are if they are names."""
        if not (self.is_directory and by_number):
            return self
        return replace(self, names=[int(name) if _is_number(name) else name for name in self.names])


def locate(options: DataOptions) -> Located:
    assert options.path is not None
    tables = {TRAIN: options.path, TEST: options.test_path, VAL: options.val_path}
    parts = {split: _labels_of(table, options) for split, table in tables.items() if table is not None}
    _check_parts_differ(parts)
    by_number = all(_is_number(name) for part in parts[TRAIN] if part.is_directory for name in part.names)
    parts = {split: [part.with_directory_as(by_number) for part in of_split] for split, of_split in parts.items()}
    names = _class_names(parts[TRAIN], options.path, options.label_column)
    layout = None
    shards: list[TableShard] = []
    limits, first_id = None, 0
    origins = []
    for split, of_split in parts.items():
        table = tables[split]
        assert table is not None
        if not of_split:
            raise UserError(f"{table} has no row: name another table")
        labels = _as_classes(of_split, names, table)
        found = layout_of([part.file for part in of_split], options.image_column)
        if layout not in (None, found):
            raise UserError(f"{table} has images as {found}, {options.path} as {layout}: use one format in both")
        layout = found
        limits = None
        if split == TRAIN and options.test_path is None:
            limits = _test_limits(labels, options, num_classes=len(names))
        shards += _shards(of_split, labels, split, layout, limits, options, first_id=first_id)
        first_id += len(labels)
        origins.append(f"{_ROLES[split]}{table.name}, {len(np.unique(labels))} classes, {len(labels)} images")
    assert layout is not None, "the training images have one"
    if options.test_path is None:
        origins.append(f"test set: {options.test_fraction:g} of each class")
    return Located(
        shards=shards,
        origin=f"table {'; '.join(origins)}{remark_on_case(map(str, names))}",
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
    columns = [pa.array(ids), contents, pa.array(shard.labels), pa.array(splits, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def _check_parts_differ(parts: Mapping[str, Sequence[_Labels]]) -> None:
    """Raise UserError if a file is in two splits: a network would be measured on what it learned."""
    found: dict[Location, str] = {}
    for split, of_split in parts.items():
        for part in of_split:
            if (other := found.setdefault(part.file.resolve(), split)) != split:
                raise UserError(
                    f"{part.file} is in the {other} split and in the {split} split: leave it out of one of them"
                )


def _labels_of(table: Location, options: DataOptions) -> list[_Labels]:
    files = table_files(table)
    with ThreadPoolExecutor(READERS) as threads:
        return [found for found in threads.map(lambda file: _labels_of_file(file, options), files) if len(found.codes)]


def _labels_of_file(file: Location, options: DataOptions) -> _Labels:
    name = options.label_column
    with open_parquet(file) as parquet:
        sizes = row_group_sizes(parquet)
        missing = [column for column in (options.image_column, name) if column not in parquet.schema_arrow.names]
        directory = _directory_value(file, name)
        if missing == [name] and directory is not None:
            if directory == _NULL_DIRECTORY and sum(sizes):
                raise UserError(f"{file} has {sum(sizes)} rows without a label: fill or remove them")
            return _Labels(file, sizes, np.zeros(sum(sizes), np.int32), [directory], is_directory=True)
        check_has_columns(parquet.schema_arrow, [options.image_column, name], file)
        kind = parquet.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(is_label(kind) for is_label in _LABEL_TYPES):
            raise UserError(f"{file} has labels of the type {kind}: integers or strings were expected")
    with open_parquet(file, dictionaries=[name]) as parquet:
        try:
            check_memory(parquet, [name], file=file, as_dictionaries=True)
            column = parquet.read([name]).column(name)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise damaged(file, error) from None
    if column.null_count:
        raise UserError(f"{file} has {column.null_count} rows without a label: fill or remove them")
    coded = pc.dictionary_encode(column).unify_dictionaries().combine_chunks()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    # A dictionary may have values that no row has.
    used, codes = np.unique(coded.indices.to_numpy(), return_inverse=True)
    names = coded.dictionary.take(pa.array(used)).to_pylist()
    names = [class_name_of(name) if isinstance(name, str) else name for name in names]
    return _Labels(file, sizes, codes.astype(np.int32), names)


def _is_number(name: int | str) -> bool:
    return isinstance(name, int) or re.fullmatch("-?[0-9]{1,18}", name) is not None


def _directory_value(file: Location, column: str) -> str | None:
    """The label that a directory's name (column=value) gives to its files."""
    for part in file.parts[:-1]:
        name, is_value, value = part.partition("=")
        if is_value and name == column:
            return class_name_of(unquote(value, errors="surrogateescape"))
    return None


def _class_names(parts: Sequence[_Labels], table: Location, column: str) -> list[int | str]:
    """Labels by class index. Raises UserError if there are fewer than two classes, or if one cannot be a class."""
    found = {name for part in parts for name in part.names}
    if len({type(name) for name in found}) > 1:
        raise UserError(f"{table} has numbers and names as labels in {column!r}: one of the two was expected")
    names = sorted(found)
    if len(names) < 2:
        raise UserError(f"{table} has {len(names)} classes in {column!r}: at least two are needed")
    if isinstance(names[0], int) and names[0] < 0:
        raise UserError(
            f"{table} has the label {names[0]} in {column!r}, and labels count from 0: remove those rows, or give names"
        )
    check_class_names(map(str, names), where=table)
    return names


def _as_classes(parts: Sequence[_Labels], names: Sequence[int | str], table: Location) -> np.ndarray:
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
