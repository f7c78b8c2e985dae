"""The interface of a source: a data set in the layout that its publishers chose.

The driver finds or downloads the files and divides them into shards (``locate``); executors read the shards in parallel
(``read``). To add a data set NAME, write data/sources/NAME.py with these two functions, and conf/datasets/NAME.yaml.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.data.byte_columns import rows_as_bytes
from longtail.data.contract import RAW, SOURCE_SCHEMA
from longtail.data.image_files import check_image


@dataclass(frozen=True)
class Shard:
    """A part of a source that one task reads.

    path: the file, or the directory of a source that needs several files
    split: TRAIN, VAL or TEST, the split in the source; UNLABELED in a source of unlabeled images
    index: of the shard in its split
    first_id: id of its first image
    """

    path: Location
    split: str
    index: int
    first_id: int

    def image_name(self, index: int) -> str:
        """What to call the shard's image ``index`` in messages."""
        return f"image {self.first_id + index} ({self.path.name}, {self.split})"


@dataclass(frozen=True, kw_only=True)
class UserImageShard(Shard):
    """A part of the user's images, which may be damaged.

    skip_bad: give a row of the split SKIPPED for an image that cannot be decoded, instead of raising UserError
    check: called with each file that is stored unchanged; raises BAD_IMAGE. None: an earlier pass has checked them
    """

    skip_bad: bool
    check: Callable[[bytes], None] | None = check_image


ShardT = TypeVar("ShardT", bound=Shard, contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Located:
    """A source whose files were found.

    origin: of the images, a phrase for the manifest
    class_names: by label
    image_shape: (height, width, channels)
    encoding: RAW; or ENCODED if rows contain files, with image_shape after decoding
    unread: names of files that are images of a kind that is not read
    head_to_tail: the labels, from the largest class of a long-tail profile to the smallest; by default in their order
    """

    shards: Sequence[Shard]
    origin: str
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    encoding: str = RAW
    unread: Sequence[str] = ()
    head_to_tail: Sequence[int] | None = None

    @property
    def labels_head_to_tail(self) -> list[int]:
        return list(range(len(self.class_names)) if self.head_to_tail is None else self.head_to_tail)


def with_check(shard: Shard, check: Callable[[bytes], None] | None) -> Shard:
    """The shard with another check, if its images are the user's. Decoding takes most of the time of large images."""
    return replace(shard, check=check) if isinstance(shard, UserImageShard) else shard


class Source(Protocol[ShardT]):
    """The interface of the modules in this package; the module of a published data set has CLASS_NAMES as well."""

    @staticmethod
    def locate(options: DataOptions) -> Located:
        """Find the files, or download them to --data_dir. Raises UserError if neither is possible."""
        ...

    @staticmethod
    def read(shard: ShardT) -> pa.RecordBatch:
        """The shard's rows (SOURCE_SCHEMA). Raises UserError if the file is damaged."""
        ...


class UnlabeledSource(Protocol[ShardT]):
    """A source of images for the unlabeled part alone (data/sources/unlabeled.py chooses one)."""

    @staticmethod
    def locate(options: DataOptions, base: Located) -> Located:
        """Find images that fit the data set ``base``. Raises UserError if they are missing or do not fit."""
        ...

    @staticmethod
    def read(shard: ShardT) -> pa.RecordBatch:
        """The shard's rows (SOURCE_SCHEMA), all of the split UNLABELED."""
        ...


def source_batch(shard: Shard, images: np.ndarray, labels: np.ndarray) -> pa.RecordBatch:
    """Rows for images (N, height, width, channels) uint8, less than 2 GiB together, and labels (N,)."""
    num_images = len(images)
    if images.dtype != np.uint8 or images.nbytes >= 2**31:
        # 32-bit offsets would wrap around, and bytes of other types would be read as pixels.
        raise ValueError(f"a shard holds less than 2 GiB of uint8 pixels, not {images.nbytes} bytes of {images.dtype}")
    if len(labels) != num_images:
        raise UserError(f"{shard.path} has {num_images} images and {len(labels)} labels: get the files again")
    columns = [
        pa.array(np.arange(shard.first_id, shard.first_id + num_images, dtype=np.int64)),
        rows_as_bytes(images),
        pa.array(labels.astype(np.int32)),
        pa.array([shard.split] * num_images),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def check_labels(labels: np.ndarray, *, num_classes: int, path: Location) -> None:
    """Raise UserError, with the file's name, if a label is outside 0..num_classes - 1."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise UserError(
            f"{path} has the label {wrong[0]}, the {num_classes} classes are 0..{num_classes - 1}: get the file again"
        )
