"""The idx files of MNIST and of data sets in the same layout: four .gz files.

A file is a magic number of four bytes (the third: 8 for bytes; the fourth: the number of dimensions), the size of each
dimension as a big-endian int32, and the values.
"""

import gzip
import math
import zlib

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_for_reading
from longtail.conf.base.locations import Location
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.sources.base import Shard, source_batch

IMAGE_SHAPE = (28, 28, 1)
NUM_TRAIN = 60_000
# The largest file: 16 bytes of header and the training images.
_MAX_BYTES = 16 + NUM_TRAIN * IMAGE_SHAPE[0] * IMAGE_SHAPE[1]
_PREFIX = {TRAIN: "train", TEST: "t10k"}


def idx_shards(directory: Location) -> list[Shard]:
    """One shard per split."""
    return [Shard(directory, TRAIN, 0, 0), Shard(directory, TEST, 0, NUM_TRAIN)]


def shard_files(shard: Shard) -> tuple[Location, Location]:
    """The files of the shard's images and labels."""
    prefix = _PREFIX[shard.split]
    return shard.path / f"{prefix}-images-idx3-ubyte.gz", shard.path / f"{prefix}-labels-idx1-ubyte.gz"


def idx_batch(shard: Shard, images: bytes, labels: bytes) -> pa.RecordBatch:
    """Rows from the uncompressed content of a shard's two files. Raises UserError if it is not idx, or inconsistent."""
    image_file, label_file = shard_files(shard)
    pixels = parse_idx(images, path=image_file, num_dimensions=3)
    return source_batch(shard, pixels[..., None], parse_idx(labels, path=label_file, num_dimensions=1))


def unpack(path: Location) -> bytes:
    """The uncompressed content. Raises UserError if the file is missing, damaged, not gzip, or too large."""
    try:
        with open_for_reading(path) as file, gzip.GzipFile(fileobj=file) as unpacked:
            content = unpacked.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): delete it and run again") from None
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path} has more than {_MAX_BYTES} bytes unpacked, which is no official file: delete it")
    return content


def parse_idx(content: bytes, *, path: Location, num_dimensions: int) -> np.ndarray:
    """The values of an idx file of bytes, in their shape. Raises UserError if the header does not fit."""
    magic, expected = content[:4].hex(), f"000008{num_dimensions:02x}"
    if magic != expected:
        raise UserError(
            f"{path} begins with {magic or 'nothing'}, an idx file of {num_dimensions} dimensions with {expected}: "
            f"delete it and run again"
        )
    header_bytes = 4 + 4 * num_dimensions
    shape = tuple(np.frombuffer(content[4:header_bytes].ljust(header_bytes - 4, b"\0"), ">i4").tolist())
    values = np.frombuffer(content, np.uint8)[header_bytes:]
    if len(content) < header_bytes or min(shape) < 0 or len(values) != math.prod(shape):
        raise UserError(f"{path} has {len(values)} values, its header {shape}: delete it and run again")
    return values.reshape(shape)
