"""What a source is: a data set in the layout that its publishers chose.

A source finds or fetches its files in the driver (``locate``) and names shards;
executors read the shards in parallel (``read``). Adding a data set: a module
here with these two functions, a line in registry.py, and a YAML file in
conf/datasets/.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.data.contract import RAW, SOURCE_SCHEMA


@dataclass(frozen=True)
class Shard:
    """A part of the source that one task reads.

    path: the file (or the directory, where the source wants more than one file)
    split: TRAIN or TEST, the source's own split; UNLABELED in a source of unlabeled images
    index: number of the shard in its split
    first_id: id of its first image
    """

    path: Path
    split: str
    index: int
    first_id: int


@dataclass(frozen=True, kw_only=True)
class Located:
    """A source that was found.

    origin: where it came from, a line for the manifest
    class_names: by label
    image_shape: (height, width, channels)
    encoding: RAW, or ENCODED where rows hold files and image_shape is that after decoding
    num_images: those that the shards name, where they may prove to be undecodable
    head_to_tail: the labels, from the class that a long-tail profile makes the largest to the smallest; by default as
        they are numbered
    """

    shards: Sequence[Shard]
    origin: str
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    encoding: str = RAW
    num_images: int | None = None
    head_to_tail: Sequence[int] | None = None

    @property
    def labels_head_to_tail(self) -> list[int]:
        return list(range(len(self.class_names)) if self.head_to_tail is None else self.head_to_tail)


def without_second_check(shards: Sequence[Shard]) -> list[Shard]:
    """The same shards for a further pass over images of which a whole pass found none bad.

    Decoding is most of the time that large images take. Where bad ones are left out, they must be found again.
    """
    return [
        replace(shard, is_checked=True) if hasattr(shard, "is_checked") and not shard.skip_bad else shard
        for shard in shards
    ]


class Source(Protocol):
    """The interface of the modules in this package; one of a published data set has its CLASS_NAMES as well."""

    @staticmethod
    def locate(options: DataOptions) -> Located:
        """Find the files, or fetch them into --data_dir. Raises UserError if neither works."""

    @staticmethod
    def read(shard: Shard) -> pa.RecordBatch:
        """The shard's rows, SOURCE_SCHEMA. Raises UserError if the file is damaged."""


class UnlabeledSource(Protocol):
    """A source of images for the unlabeled part alone (data/sources/unlabeled.py chooses one)."""

    @staticmethod
    def locate(options: DataOptions, base: Located) -> Located:
        """Find the images that go with the located data set. Raises UserError if they cannot be had or do not fit."""

    @staticmethod
    def read(shard: Shard) -> pa.RecordBatch:
        """The shard's rows, all of the split UNLABELED."""


def source_batch(shard: Shard, images: np.ndarray, labels: np.ndarray) -> pa.RecordBatch:
    """Rows for images (N, height, width, channels) uint8 and labels (N,)."""
    num_images = len(images)
    if len(labels) != num_images:
        raise UserError(f"{shard.path} has {num_images} images and {len(labels)} labels: get the files again")
    columns = [
        pa.array(np.arange(shard.first_id, shard.first_id + num_images, dtype=np.int64)),
        _image_column(images),
        pa.array(labels.astype(np.int32)),
        pa.array([shard.split] * num_images),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def check_labels(labels: np.ndarray, *, num_classes: int, path: Path) -> None:
    """Raises UserError, with the file's name, if a label is none of 0..num_classes - 1."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise UserError(
            f"{path} has the label {wrong[0]}, the {num_classes} classes are 0..{num_classes - 1}: get the file again"
        )


def _image_column(images: np.ndarray) -> pa.BinaryArray:
    """The rows of a uint8 array as one Arrow column, without an object per image."""
    num_images = len(images)
    size = int(np.prod(images.shape[1:]))
    offsets = np.arange(num_images + 1, dtype=np.int32) * np.int32(size)
    return pa.Array.from_buffers(
        pa.binary(), num_images, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(images))]
    )
