"""Images that do not fit into memory, read row group by row group during an epoch.

Ids and labels are in memory. The order of an epoch is computed from row numbers, so that every rank knows the order of
all, and the same (seed, epoch) gives the same order. Row groups are read in random order, and a shuffle buffer of
``shuffle_buffer`` rows mixes consecutive rows. The sequence of rows is split into near-equal parts, one per rank: every
row is read by exactly one rank, and two neighbouring ranks share at most one row group.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import ENCODED, ID, LABEL
from longtail.data.image_files import decode_files
from longtail.data.loader import checked_rows, image_array, read_columns, split_files
from longtail.data.manifest import Manifest
from longtail.data.row_groups import RowGroup, read_image_column, row_groups


@dataclass(frozen=True, kw_only=True)
class StreamedImages:
    """Images of a split that stay on disk. Image i is row ``rows[i]`` of the concatenated row groups.

    image_shape: (height, width, channels)
    encoding: RAW or ENCODED
    groups: the row groups
    first_rows: (len(groups) + 1,) int64, the first row of each group, and the number of rows
    rows: (N,) int64, increasing
    """

    image_shape: tuple[int, int, int]
    encoding: str
    groups: tuple[RowGroup, ...]
    first_rows: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, chosen: np.ndarray) -> "StreamedImages":
        """The images where ``chosen`` (N,) bool is true."""
        return StreamedImages(
            image_shape=self.image_shape,
            encoding=self.encoding,
            groups=self.groups,
            first_rows=self.first_rows,
            rows=self.rows[chosen],
        )

    def followed_by(self, other: "StreamedImages") -> "StreamedImages":
        """The images of both, those of ``other`` last."""
        end = self.first_rows[-1]
        return StreamedImages(
            image_shape=self.image_shape,
            encoding=self.encoding,
            groups=self.groups + other.groups,
            first_rows=np.concatenate([self.first_rows, end + other.first_rows[1:]]),
            rows=np.concatenate([self.rows, end + other.rows]),
        )


@dataclass(frozen=True)
class StreamedSplit:
    """One split: ids (N,) int64, labels (N,) int64 (None for the unlabeled part), and the images, in file order."""

    ids: np.ndarray
    labels: np.ndarray | None
    images: StreamedImages


def open_split(set_dir: Location, split: str, manifest: Manifest) -> StreamedSplit:
    """Open a split without reading its images. Raises UserError if the rows differ from the manifest."""
    files = split_files(set_dir, split)
    table = read_columns(files, [ID] if split == UNLABELED else [ID, LABEL])
    ids, labels = checked_rows(table, set_dir, split, manifest)
    groups = row_groups(files)
    first_rows = np.concatenate([[0], np.cumsum([group.num_rows for group in groups], dtype=np.int64)])
    images = StreamedImages(
        image_shape=manifest.image_shape,
        encoding=manifest.encoding,
        groups=tuple(groups),
        first_rows=first_rows,
        rows=np.arange(first_rows[-1]),
    )
    return StreamedSplit(ids, labels, images)


def epoch_orders(
    images: StreamedImages,
    *,
    world_size: int,
    shuffle_buffer: int,
    generator: np.random.Generator,
    repeats: np.ndarray | None = None,
) -> list[np.ndarray]:
    """For each rank, the indices (n,) int64 of its images in the order of the epoch; each image is in one of them.

    repeats: (N,) number of occurrences of each image, instead of one

    The shuffle buffer as arithmetic: images are sorted by i + u, where i is the position in the sequence and u uniform
    in [0, shuffle_buffer). An image beyond i + shuffle_buffer has a larger key, so that a buffer of that many images
    suffices.
    """
    ends = np.searchsorted(images.rows, images.first_rows).tolist()  # images of group g: from ends[g] to ends[g + 1]
    order = generator.permutation(len(images.groups))
    sequence = np.concatenate([np.arange(ends[group], ends[group + 1]) for group in order] or [np.empty(0, np.int64)])
    if repeats is not None:
        sequence = np.repeat(sequence, repeats[sequence])
    orders = []
    for rank in range(world_size):
        part = sequence[len(sequence) * rank // world_size : len(sequence) * (rank + 1) // world_size]
        keys = np.arange(len(part)) + shuffle_buffer * generator.random(len(part))
        orders.append(part[np.argsort(keys, kind="stable")])
    return orders


def read_images(images: StreamedImages, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The images of each batch of indices (n,), as (n, height, width, channels) uint8; the next batch is prefetched.

    A row group is in memory from the first batch that needs it to the last.

    Raises UserError if a file is damaged.
    """
    groups = [np.searchsorted(images.first_rows, images.rows[batch], side="right") - 1 for batch in batches]
    last_use = {}
    for number, batch_groups in enumerate(groups):
        last_use.update(dict.fromkeys(np.unique(batch_groups).tolist(), number))
    held: dict[int, pa.Array] = {}

    def load(number: int) -> np.ndarray:
        needed = np.unique(groups[number]).tolist()
        for group in needed:
            if group not in held:
                held[group] = read_image_column(images.groups[group])
        found = _gather(images, held, groups[number], batches[number])
        for group in needed:
            if last_use[group] == number:
                del held[group]
        return found

    if not batches:
        return
    with ThreadPoolExecutor(1) as prefetcher:
        upcoming = prefetcher.submit(load, 0)
        for number in range(1, len(batches)):
            ready = upcoming.result()
            upcoming = prefetcher.submit(load, number)
            yield ready
        yield upcoming.result()


def _gather(images: StreamedImages, held: dict[int, pa.Array], groups: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(n, height, width, channels) uint8 for image indices (n,) in the row groups ``groups`` (n,)."""
    found = np.empty((len(indices), *images.image_shape), np.uint8)
    rows = images.rows[indices] - images.first_rows[groups]
    by_group = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[by_group])) + 1
    parts = [part for part in np.split(by_group, cuts) if len(part)]
    if images.encoding == ENCODED:
        contents = [held[int(groups[part[0]])].take(pa.array(rows[part])) for part in parts]
        found[by_group] = decode_files(pa.chunked_array(contents, pa.binary()), images.image_shape)
        return found
    for part in parts:
        found[part] = image_array(held[int(groups[part[0]])], images.image_shape)[rows[part]]
    return found
