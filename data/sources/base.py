"""What a source is: a data set in the layout that its publishers chose.

A source finds or fetches its files in the driver (``locate``) and names shards;
executors read the shards in parallel (``read``). Adding a data set: a module
here with these two functions and the constants below, a line in registry.py,
and a YAML file in conf/datasets/.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from conf.errors import UserError
from data.contract import SOURCE_SCHEMA


@dataclass(frozen=True)
class Shard:
    """A part of the source that one task reads.

    path: the file (or the directory, where the source wants more than one file)
    split: TRAIN or TEST, the source's own split
    index: number of the shard in its split
    first_id: id of its first image
    """

    path: Path
    split: str
    index: int
    first_id: int


@dataclass(frozen=True)
class Located:
    """A source that was found: its shards, and a line on where it came from for the manifest."""

    shards: list[Shard]
    origin: str


class Source(Protocol):
    """The interface of the modules in this package."""

    CLASS_NAMES: list[str]
    IMAGE_SHAPE: tuple[int, int, int]

    @staticmethod
    def locate(data_dir: Path) -> Located:
        """Find the files, or fetch them into data_dir. Raises UserError if neither works."""

    @staticmethod
    def read(shard: Shard) -> pa.RecordBatch:
        """The shard's rows, SOURCE_SCHEMA. Raises UserError if the file is damaged."""


def source_batch(shard: Shard, images: np.ndarray, labels: np.ndarray) -> pa.RecordBatch:
    """Rows for images (N, height, width, channels) uint8 and labels (N,)."""
    num_images = len(images)
    if len(labels) != num_images:
        raise UserError(f"{shard.path} has {num_images} images and {len(labels)} labels: get the files again")
    size = int(np.prod(images.shape[1:]))
    offsets = np.arange(num_images + 1, dtype=np.int32) * np.int32(size)
    image_column = pa.Array.from_buffers(
        pa.binary(), num_images, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(images))]
    )
    columns = [
        pa.array(np.arange(shard.first_id, shard.first_id + num_images, dtype=np.int64)),
        image_column,
        pa.array(labels.astype(np.int32)),
        pa.array([shard.split] * num_images),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)
