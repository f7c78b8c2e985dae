"""From a user's own rows to the pixels that a network takes, within a task: a batch at a time, in groups of one size.

A row's image is in a column, or in a file that the row names (image_columns.py). One that cannot be decoded has a
reason in the place of its pixels. Of files, only a few are in memory at once.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from longtail.conf.base.shown_text import one_line
from longtail.data.any_image import pixels_of, raw_pixels
from longtail.data.image_files import BAD_IMAGE
from longtail.spark_jobs.frames.image_columns import FileColumn, ImageColumn

ROWS_READ_AT_ONCE = 64
"""Images of files, whose content is in memory only until they are pixels."""
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class DecodedRows:
    """N rows and their images.

    rows: the columns that a result keeps
    pixels: (N, height, width, channels) uint8; 0 where there is none
    reasons: why an image could not be decoded; None if it was
    """

    rows: pa.RecordBatch
    pixels: np.ndarray
    reasons: list[str | None]

    def __len__(self) -> int:
        return self.rows.num_rows

    def part(self, start: int, stop: int) -> "DecodedRows":
        """The rows from start to stop."""
        return DecodedRows(
            self.rows.slice(start, stop - start), self.pixels[start:stop], self.reasons[start:stop]
        )  # fmt: skip


def decoded_rows(
    batches: Iterator[pa.RecordBatch],
    images: ImageColumn | FileColumn,
    shape: Shape,
    *,
    kept: list[str],
    group_size: int,
) -> Iterator[DecodedRows]:
    """All rows of the batches with their pixels, in groups of a multiple of ``group_size`` but for the last.

    shape: (height, width, channels) of the pixels
    kept: the columns that stay
    """
    yield from _regrouped(_decoded(batches, images, shape, kept=kept, size=group_size), group_size)


def pixels_of_values(values: Sequence[Callable[[], object]], shape: Shape) -> tuple[np.ndarray, list[str | None]]:
    """The pixels (N, *shape) uint8 of the images that the functions return, and why one has none (DecodedRows)."""
    import torch

    pixels = np.zeros((len(values), *shape), np.uint8)
    reasons: list[str | None] = [None] * len(values)

    def fill(index: int) -> None:
        try:
            pixels[index] = pixels_of(values[index](), shape)
        except FileNotFoundError:
            reasons[index] = "no such file"
        except BAD_IMAGE as error:
            reasons[index] = one_line(str(error))

    # PIL releases the GIL while it decodes.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for _ in threads.map(fill, range(len(values))):
            pass
    return pixels, reasons


def _decoded(
    batches: Iterator[pa.RecordBatch], images: ImageColumn | FileColumn, shape: Shape, *, kept: list[str], size: int
) -> Iterator[DecodedRows]:
    # Files are read here; what is in a column is in memory already.
    size = ROWS_READ_AT_ONCE if isinstance(images, FileColumn) else size
    for batch in batches:
        for first in range(0, batch.num_rows, size):
            part = batch.slice(first, size)
            yield DecodedRows(part.select(kept), *_pixels_of_rows(part.select(list(images.columns)), images, shape))


def _pixels_of_rows(
    rows: pa.RecordBatch, images: ImageColumn | FileColumn, shape: Shape
) -> tuple[np.ndarray, list[str | None]]:
    """As pixels_of_values(), of rows with the columns of an image; pixels as the network takes them are not copied."""
    if isinstance(images, FileColumn) or images.has_sizes:
        return pixels_of_values([partial(images.value, row) for row in rows.to_pylist()], shape)
    pixels, is_certain = raw_pixels(rows.column(images.name), shape)
    reasons: list[str | None] = [None] * rows.num_rows
    others = np.flatnonzero(~is_certain)
    for first in range(0, len(others), ROWS_READ_AT_ONCE):
        indices = others[first : first + ROWS_READ_AT_ONCE]
        values = [partial(images.value, row) for row in rows.take(pa.array(indices)).to_pylist()]
        pixels[indices], of_indices = pixels_of_values(values, shape)
        for index, reason in zip(indices, of_indices, strict=True):
            reasons[index] = reason
    return pixels, reasons


def _regrouped(parts: Iterator[DecodedRows], size: int) -> Iterator[DecodedRows]:
    """The same rows in groups of ``size``, so that no forward pass but the last is padded."""
    waiting: list[DecodedRows] = []
    num_waiting = 0
    for part in parts:
        waiting.append(part)
        num_waiting += len(part)
        if num_waiting >= size:
            joined = _joined(waiting)
            whole = num_waiting - num_waiting % size
            yield joined.part(0, whole)
            num_waiting -= whole
            waiting = [joined.part(whole, len(joined))] if num_waiting else []
    if num_waiting:
        yield _joined(waiting)


def _joined(parts: list[DecodedRows]) -> DecodedRows:
    if len(parts) == 1:
        return parts[0]
    return DecodedRows(
        pa.concat_batches([part.rows for part in parts]),
        np.concatenate([part.pixels for part in parts]),
        [reason for part in parts for reason in part.reasons],
    )
