"""From a prepared set's Parquet files to arrays in memory.

Raw images are copied from the Arrow buffers without a Python object per row,
encoded ones are decoded, both in threads. Rows come sorted by id, so the result does
not depend on how they were spread over files. Every page is checked against its CRC, the rows against the manifest.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.vocabulary import NO_CLASS, UNLABELED
from longtail.data.contract import (
    CONFIDENCE,
    ENCODED,
    HIDDEN_LABEL,
    ID,
    LABEL,
    PROBABILITIES,
    PSEUDO_LABEL,
    ROUND,
    ROWS_DIRECTORY,
    SPLIT,
    UNLABELED_FIRST_ID,
    split_directory,
)
from longtail.data.delta import delta_files, is_delta
from longtail.data.image_files import decoded_images
from longtail.data.manifest import Manifest
from longtail.data.row_groups import RowGroup, read_image_column, row_groups
from longtail.data.storage import Place, child, damaged, open_parquet, table_files
from longtail.data.unpickle import load_array_dict


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


def load_split(set_dir: Place, split: str, manifest: Manifest) -> ImageArrays:
    """All images of one split; never the withheld labels.

    Raises UserError if a file is missing or damaged, or if the rows are not those of the manifest.
    """
    labelled = split != UNLABELED
    files = split_files(set_dir, split)
    ids, labels = checked_rows(read_columns(files, [ID, *([LABEL] if labelled else [])]), set_dir, split, manifest)
    order = np.argsort(ids, kind="stable")
    groups = row_groups(files)
    images = np.empty((len(ids), *manifest.image_shape), np.uint8)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    places_of_groups = np.split(places, np.cumsum([group.num_rows for group in groups])[:-1])

    def fill(group: RowGroup, of_group: np.ndarray) -> None:
        images[of_group] = images_of(read_image_column(group), manifest.image_shape, manifest.encoding)

    # Decoding has threads of its own. No more than some row groups are in memory beside the array.
    with ThreadPoolExecutor(1 if manifest.encoding == ENCODED else os.cpu_count()) as threads:
        for _ in threads.map(fill, groups, places_of_groups):
            pass
    return ImageArrays(ids[order], images, None if labels is None else labels[order])


def checked_rows(
    table: pa.Table, set_dir: Place, split: str, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids (N,) int64 and labels (N,) int64 of a split's rows, in the table's order; no labels in the unlabeled part.

    Raises UserError if the rows are not those of the manifest.
    """
    if table.num_rows != manifest.num_images(split):
        raise UserError(
            f"{split_directory(set_dir, split)} holds {table.num_rows} images, its manifest says "
            f"{manifest.num_images(split)}: delete {set_dir} and run `longtail prepare` again"
        )
    ids = table.column(ID).to_numpy()
    if split == UNLABELED:
        return ids, None
    labels = table.column(LABEL).fill_null(-1).to_numpy().astype(np.int64)
    counts = np.bincount(labels[labels >= 0], minlength=manifest.num_classes).tolist()
    if counts != manifest.counts[split]:
        raise UserError(
            f"{split_directory(set_dir, split)} has class counts {counts}, its manifest says "
            f"{manifest.counts[split]}: delete {set_dir} and run `longtail prepare` again"
        )
    return ids, labels


def load_hidden_labels(set_dir: Place) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) int64 and withheld labels (N,) int64 of the unlabeled part: for the evaluation of pseudo-labels only.

    The label is NO_CLASS where an image belongs to none of the classes, or nobody knows.
    """
    table = read_columns(split_files(set_dir, UNLABELED), [ID, HIDDEN_LABEL])
    return table.column(ID).to_numpy(), table.column(HIDDEN_LABEL).fill_null(NO_CLASS).to_numpy().astype(np.int64)


def load_pseudo_labels(table_dir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A gen_pseudolabels table sorted by id: ids (N,) int64, pseudo-labels (N,) int64, confidences (N,) float32."""
    table = _read(table_dir, [ID, PSEUDO_LABEL, CONFIDENCE]).sort_by(ID)
    labels = table.column(PSEUDO_LABEL).to_numpy().astype(np.int64)
    return table.column(ID).to_numpy(), labels, table.column(CONFIDENCE).to_numpy()


def load_probabilities(table_dir: Path) -> np.ndarray:
    """The probabilities (N, C) float32 in a gen_pseudolabels table, in the order of load_pseudo_labels.

    Raises UserError if the rows are not all of as many classes.
    """
    column = _read(table_dir, [ID, PROBABILITIES]).sort_by(ID).column(PROBABILITIES).combine_chunks()
    lengths = np.unique(np.diff(column.offsets.to_numpy()))
    if len(lengths) != 1:
        raise UserError(f"{table_dir} has probabilities of {lengths.tolist()} classes: write it again")
    return column.flatten().to_numpy().reshape(-1, lengths[0])


def load_round(table_dir: Path) -> int:
    """The round of a gen_pseudolabels table. Raises UserError if it is empty or mixed from several."""
    rounds = _read(table_dir, [ROUND]).column(ROUND).unique().to_pylist()
    if len(rounds) != 1:
        raise UserError(f"{table_dir} holds pseudo-labels of rounds {sorted(rounds)}: write it again, of one")
    return rounds[0]


def load_published_pseudo_labels(file: Path, ids: np.ndarray) -> np.ndarray:
    """Labels (N,) int64 for the unlabeled images ``ids`` (N,) from a pickle in the published layout.

    Its extrapolated_targets are in the order of the images' ids; or, where only some images of a source of unlabeled
    ones were taken, in the order of that source, which their ids count. Raises UserError if they fit neither way.
    """
    labels = load_array_dict(file, ["extrapolated_targets"])["extrapolated_targets"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{file} has extrapolated_targets of {labels.dtype} {labels.shape}: integers (N,) were expected"
        )
    if len(labels) == len(ids):
        return labels.astype(np.int64)
    places = ids - UNLABELED_FIRST_ID
    if len(ids) == 0 or places.min() < 0 or places.max() >= len(labels):
        raise UserError(
            f"{file} has {len(labels)} pseudo-labels, the unlabeled part {len(ids)} images: name a file made for it"
        )
    return labels[places].astype(np.int64)


def images_of(column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int], encoding: str) -> np.ndarray:
    """The images of an Arrow column as a (N, height, width, channels) uint8 array; encoded ones decoded and scaled."""
    return decoded_images(column, shape) if encoding == ENCODED else image_array(column, shape)


def image_array(column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int]) -> np.ndarray:
    """The raw images of an Arrow column as one (N, height, width, channels) uint8 array.

    A column of one chunk is not copied: the result is then a read-only view of Arrow's buffer.

    Raises UserError if an image has another size.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_fixed_size_view(chunk, int(np.prod(shape))).reshape(-1, *shape) for chunk in chunks if len(chunk)]
    if not parts:
        return np.empty((0, *shape), np.uint8)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _fixed_size_view(chunk: pa.BinaryArray, size: int) -> np.ndarray:
    offset_type = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
    offsets = np.frombuffer(chunk.buffers()[1], offset_type)[chunk.offset : chunk.offset + len(chunk) + 1]
    lengths = np.diff(offsets)
    if (lengths != size).any():
        raise UserError(
            f"an image has {lengths[lengths != size][0]} bytes, {size} were expected: prepare the set again"
        )
    pixels = np.frombuffer(chunk.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    pixels.flags.writeable = False  # Arrow's data is immutable, even where its buffer is not
    return pixels


def split_files(set_dir: Place, split: str) -> list[Place]:
    """The Parquet files of one split, sorted by name; of a Delta table those of its newest version.

    Raises UserError if there are none.
    """
    directory = split_directory(set_dir, split)
    rows = child(set_dir, ROWS_DIRECTORY)
    if not isinstance(rows, Path) or not is_delta(rows):
        return table_files(directory)
    files = sorted(file for file in delta_files(rows) if file.parent.name == f"{SPLIT}={split}")
    if not files:
        raise UserError(f"{directory} holds no Parquet file: run the job that writes it again")
    return files


def read_columns(files: Sequence[Place], columns: list[str]) -> pa.Table:
    """Columns of all rows, file after file. Raises UserError if a file is damaged or lacks one."""
    tables = []
    for file in files:
        with open_parquet(file) as parquet:
            if missing := sorted(set(columns) - set(parquet.schema_arrow.names)):
                raise UserError(f"{file} has no column {', '.join(missing)}: it was not written by the job that should")
            try:
                tables.append(parquet.read(columns))
            except (OSError, pa.ArrowException) as error:
                raise damaged(file, error) from None
    return pa.concat_tables(tables)


def _read(table: Place, columns: list[str]) -> pa.Table:
    return read_columns(table_files(table), columns)
