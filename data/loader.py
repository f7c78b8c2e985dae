"""From a prepared set's Parquet files to arrays in memory.

Raw images are sliced from the Arrow buffers without a Python object per row,
encoded ones are decoded in threads. Rows come sorted by id, so the result does
not depend on how they were spread over files. Every page is checked against its CRC, the rows against the manifest.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import UserError
from data.contract import (
    CONFIDENCE,
    ENCODED,
    HIDDEN_LABEL,
    ID,
    IMAGE,
    LABEL,
    NO_CLASS,
    PSEUDO_LABEL,
    UNLABELED,
    UNLABELED_FIRST_ID,
    split_directory,
)
from data.image_files import decoded_images
from data.manifest import Manifest
from data.unpickle import load_array_dict


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


def load_split(set_dir: Path, split: str, manifest: Manifest) -> ImageArrays:
    """All images of one split; never the withheld labels.

    Raises UserError if a file is missing or damaged, or if the rows are not those of the manifest.
    """
    labelled = split != UNLABELED
    table = read_table(split_directory(set_dir, split), [ID, IMAGE, *([LABEL] if labelled else [])])
    expected = manifest.counts[split]
    if table.num_rows != manifest.num_images(split):
        raise UserError(
            f"{split_directory(set_dir, split)} holds {table.num_rows} images, its manifest says "
            f"{manifest.num_images(split)}: delete {set_dir} and run `longtail prepare` again"
        )
    ids = table.column(ID).to_numpy()
    order = np.argsort(ids, kind="stable")
    images = images_of(table.column(IMAGE), manifest.image_shape, manifest.encoding)[order]
    labels = table.column(LABEL).fill_null(-1).to_numpy().astype(np.int64)[order] if labelled else None
    if labels is not None:
        counts = np.bincount(labels[labels >= 0], minlength=manifest.num_classes).tolist()
        if counts != expected:
            raise UserError(
                f"{split_directory(set_dir, split)} has class counts {counts}, its manifest says {expected}: "
                f"delete {set_dir} and run `longtail prepare` again"
            )
    return ImageArrays(ids[order], images, labels)


def load_hidden_labels(set_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) int64 and withheld labels (N,) int64 of the unlabeled part: for the evaluation of pseudo-labels only.

    The label is NO_CLASS where an image belongs to none of the classes, or nobody knows.
    """
    table = read_table(split_directory(set_dir, UNLABELED), [ID, HIDDEN_LABEL])
    return table.column(ID).to_numpy(), table.column(HIDDEN_LABEL).fill_null(NO_CLASS).to_numpy().astype(np.int64)


def load_pseudo_labels(table_dir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A gen_pseudolabels table sorted by id: ids (N,) int64, pseudo-labels (N,) int64, confidences (N,) float32."""
    table = read_table(table_dir, [ID, PSEUDO_LABEL, CONFIDENCE]).sort_by(ID)
    labels = table.column(PSEUDO_LABEL).to_numpy().astype(np.int64)
    return table.column(ID).to_numpy(), labels, table.column(CONFIDENCE).to_numpy()


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


def read_table(directory: Path, columns: list[str]) -> pa.Table:
    """The columns of all Parquet files of a directory. Raises UserError if one is damaged, or there is none."""
    files = sorted(directory.glob("*.parquet"))
    if not files:
        raise UserError(f"{directory} holds no Parquet file: run the job that writes it again")
    tables = []
    for file in files:
        try:
            with pq.ParquetFile(file, page_checksum_verification=True, memory_map=True) as parquet:
                missing = sorted(set(columns) - set(parquet.schema_arrow.names))
                tables.append(parquet.read(columns))
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{file} is damaged ({str(error).splitlines()[0]}): run the job that writes it again"
            ) from None
        if missing:
            raise UserError(f"{file} has no column {', '.join(missing)}: it was not written by the job that should")
    return pa.concat_tables(tables)
