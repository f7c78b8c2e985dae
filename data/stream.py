"""Images that do not fit into memory, read row group by row group while a training goes through them.

What is small (ids and labels) is in memory; the order of an epoch is arithmetic
over row numbers, so every rank knows the order of all, and an epoch is the same
again for the same (seed, epoch). Row groups come in a random order; a buffer of
``shuffle_buffer`` rows mixes what follows one another. The row sequence is cut
into near-equal parts, a rank each: every row is read by exactly one rank, and
at most one row group is shared by two neighbours.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from longtail.conf.vocabulary import UNLABELED
from longtail.data.contract import ENCODED, ID, LABEL
from longtail.data.image_files import decoded_images
from longtail.data.loader import checked_rows, image_array, read_columns, split_files
from longtail.data.manifest import Manifest
from longtail.data.row_groups import RowGroup, read_image_column, row_groups
from longtail.data.storage import Place


@dataclass(frozen=True, kw_only=True)
class StreamedImages:
    """The images of a split that stay on disk. Image i is row ``rows[i]`` of the row groups laid end to end.

    image_shape: (height, width, channels); encoding: RAW or ENCODED
    groups: the row groups; first_rows: (len(groups) + 1,) int64, the row that each begins with, and the end
    rows: (N,) int64, rising
    """

    image_shape: tuple[int, int, int]
    encoding: str
    groups: tuple[RowGroup, ...]
    first_rows: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, chosen: np.ndarray) -> "StreamedImages":
        """Those images for which ``chosen`` (N,) bool holds."""
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


def open_split(set_dir: Place, split: str, manifest: Manifest) -> StreamedSplit:
    """A split without its images. Raises UserError if the rows are not those of the manifest."""
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
    """For each rank, which images it gives and when: (n,) int64 places. Together every image once.

    repeats: (N,) how often each image is given instead

    The buffer in numbers: the image that would come i-th comes by the rank of i + u, u uniform in [0, shuffle_buffer).
    Whatever comes later than i + shuffle_buffer has a larger number, so a buffer of that many images is enough.
    """
    ends = np.searchsorted(images.rows, images.first_rows)  # of image places, by row group
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
    """The images of each batch of places (n,), as (n, height, width, channels) uint8; the next one is read ahead.

    A row group is read when its first image is due, and let go of after its last.

    Raises UserError if a file is damaged.
    """
    groups = [np.searchsorted(images.first_rows, images.rows[batch], side="right") - 1 for batch in batches]
    last_use = {}
    for number, of_batch in enumerate(groups):
        last_use.update(dict.fromkeys(np.unique(of_batch).tolist(), number))
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

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(load, 0) if batches else None
        for number in range(len(batches)):
            assert coming is not None
            ready = coming.result()
            coming = ahead.submit(load, number + 1) if number + 1 < len(batches) else None
            yield ready


def _gather(images: StreamedImages, held: dict[int, pa.Array], groups: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n, height, width, channels) uint8 for places (n,), of which groups (n,) says where each lies."""
    found = np.empty((len(places), *images.image_shape), np.uint8)
    rows = images.rows[places] - images.first_rows[groups]
    together = np.argsort(groups, kind="stable")  # the images of a row group side by side
    cuts = np.flatnonzero(np.diff(groups[together])) + 1
    parts = [part for part in np.split(together, cuts) if len(part)]
    if images.encoding == ENCODED:
        contents = [held[groups[part[0]]].take(pa.array(rows[part])) for part in parts]
        found[together] = decoded_images(pa.chunked_array(contents, pa.binary()), images.image_shape)
        return found
    for part in parts:
        found[part] = image_array(held[groups[part[0]]], images.image_shape)[rows[part]]
    return found
