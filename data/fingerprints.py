"""Fingerprints of images, by which exact and near copies are found without comparing pixels.

A near copy is the same picture encoded again (JPEG of quality 50 to 95) or resized (to 0.5 to 2 times its side). Two
images count as near copies if the low frequencies of their grey values differ by less than MAX_DISTANCE of their
contrast, where either may be the more blurred one. Candidates are found by the signs of these frequencies: a copy
differs in at most MAX_BITS of them, and hardly ever in every one of NUM_BANDS bands.

Measured by benchmarks/near_copies.py (docs/data.md has the table), of CIFAR-10's 32x32 images: 98 to 100 % of the
copies are found (half of those that are both halved and JPEG of quality 50), and 3 of 10,000 test images count as
copies of a training image. Of Fashion-MNIST, whose images of a class are much alike: 95 to 100 %, and 17 of 10,000.
Images with a side below MIN_SIDE lose too much in any of these changes: only their exact copies are found.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.data.contract import ENCODED, ID, IMAGE, LABEL, SKIPPED, SPLIT
from longtail.data.image_files import CHANNELS
from longtail.data.loader import decode_images

CONTENT, HASH, SKETCH = "content", "hash", "sketch"

FINGERPRINT_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64(), nullable=False),
        pa.field(LABEL, pa.int32(), nullable=False),
        pa.field(SPLIT, pa.string(), nullable=False),
        # Of the stored bytes: equal for exact copies.
        pa.field(CONTENT, pa.int64(), nullable=False),
        # The signs of the low frequencies; null if the image is too small or too flat to be told from others.
        pa.field(HASH, pa.int64()),
        # The low frequencies themselves, (NUM_FREQUENCIES,) float16.
        pa.field(SKETCH, pa.binary()),
        # Of a row of the split SKIPPED, what it has there; else null.
        pa.field(IMAGE, pa.binary()),
    ]
)
"""What is kept of an image of a source (SOURCE_SCHEMA)."""

SIDE = 8
NUM_FREQUENCIES = SIDE**2 - 1
BAND_BITS = 16
NUM_BANDS = 4
MIN_SIDE = 16
MIN_CONTRAST = 4.0
"""Grey levels (root mean square) that the low frequencies must have; in CIFAR-10 every image has them."""
MAX_BITS = 12
MAX_DISTANCE = 0.06
"""As a share of the smaller contrast of the two images."""
ENCODED_SIDE = 32
"""Pixels of the side to which files are decoded."""
IMAGES_AT_ONCE = 256

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_SQUARES = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2).reshape(-1)[1:]
# Each band has some of all frequencies, from the lowest on: bands of high frequencies alone would be noise.
_BIT_ORDER = np.concatenate([np.argsort(_SQUARES, kind="stable")[band::NUM_BANDS] for band in range(NUM_BANDS)])
# Gains of the frequencies by blurs of several strengths; halving an image takes about the third off the highest ones.
_BLURS = np.exp(-np.outer([0.0, 0.1, 0.2, 0.3], _SQUARES) / SIDE**2).astype(np.float32)


def has_near_copies(image_shape: tuple[int, int, int], encoding: str) -> bool:
    """Whether near copies of a set's images can be found."""
    return encoding == ENCODED or min(image_shape[:2]) >= MIN_SIDE


def fingerprints(rows: pa.RecordBatch, image_shape: tuple[int, int, int], encoding: str) -> pa.RecordBatch:
    """The fingerprints (FINGERPRINT_SCHEMA) of rows of a source (SOURCE_SCHEMA)."""
    images = rows.column(IMAGE)
    contents = [_hash_of_bytes(image.as_buffer()) for image in images]
    is_skipped = np.array([split == SKIPPED for split in rows.column(SPLIT).to_pylist()], bool)
    frequencies = np.zeros((len(images), NUM_FREQUENCIES), np.float32)
    if has_near_copies(image_shape, encoding):
        frequencies[~is_skipped] = _frequencies(images.filter(pa.array(~is_skipped)), image_shape, encoding)
    flat = _contrast(frequencies) < MIN_CONTRAST
    columns = [
        *(rows.column(name) for name in (ID, LABEL, SPLIT)),
        pa.array(contents, pa.int64()),
        pa.array(sign_hashes(frequencies), pa.int64(), mask=flat),
        pa.array([sketch.tobytes() for sketch in frequencies.astype(np.float16)], pa.binary(), mask=flat),
        pc.if_else(pa.array(is_skipped), images, pa.scalar(None, pa.binary())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FINGERPRINT_SCHEMA)


def _frequencies(images: pa.BinaryArray, image_shape: tuple[int, int, int], encoding: str) -> np.ndarray:
    """The low frequencies of stored images; files are decoded to ENCODED_SIDE."""
    shape = (ENCODED_SIDE, ENCODED_SIDE, CHANNELS) if encoding == ENCODED else image_shape
    parts = [
        low_frequencies(decode_images(images.slice(first, IMAGES_AT_ONCE), shape, encoding))
        for first in range(0, len(images), IMAGES_AT_ONCE)
    ]
    return np.concatenate([np.empty((0, NUM_FREQUENCIES), np.float32), *parts])


def low_frequencies(images: np.ndarray) -> np.ndarray:
    """(N, NUM_FREQUENCIES) float32 of images (N, height, width, channels) uint8, in grey levels.

    The discrete cosine transform of the grey values, without the mean, scaled so that the sum of squares is the part of
    the grey values' variance that the low frequencies have.
    """
    pixels = images.astype(np.float32)
    grey = pixels[..., 0] if images.shape[3] < CHANNELS else pixels[..., :CHANNELS] @ _GREY  # (N, height, width)
    found = _basis(grey.shape[1]) @ grey @ _basis(grey.shape[2]).T  # (N, SIDE, SIDE)
    return found.reshape(len(images), -1)[:, 1:]


def sign_hashes(frequencies: np.ndarray) -> np.ndarray:
    """(N,) int64: the signs of the frequencies, in bands of BAND_BITS from the lowest bit on."""
    return ((frequencies[:, _BIT_ORDER] > 0) * (1 << np.arange(NUM_FREQUENCIES, dtype=np.int64))).sum(axis=1)


def are_near_copies(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) bool for the low frequencies (N, NUM_FREQUENCIES) of N pairs."""
    distances = [
        np.linalg.norm(a - b, axis=1) / np.minimum(_contrast(a), _contrast(b))
        for blur in _BLURS
        for a, b in ((first * blur, second), (first, second * blur))
    ]
    return np.min(distances, axis=0) < MAX_DISTANCE


def sketches_array(column: pa.Array) -> np.ndarray:
    """The low frequencies (N, NUM_FREQUENCIES) float32 of a column of sketches without nulls."""
    joined = b"".join(column.to_pylist())
    return np.frombuffer(joined, np.float16).reshape(len(column), NUM_FREQUENCIES).astype(np.float32)


def _contrast(frequencies: np.ndarray) -> np.ndarray:
    return np.linalg.norm(frequencies, axis=1)


def _basis(length: int) -> np.ndarray:
    """(SIDE, length), the rows of the transform; constants become 1, 0, 0, ..."""
    phases = np.outer(np.arange(SIDE), 2 * np.arange(length) + 1) * np.pi / (2 * length)
    basis = np.cos(phases) * np.sqrt(2) / length
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def _hash_of_bytes(content: pa.Buffer) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
