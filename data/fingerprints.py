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

from longtail.data.byte_columns import rows_as_bytes, rows_of_bytes
from longtail.data.contract import ENCODED, ID, IMAGE, LABEL, SKIPPED, SPLIT
from longtail.data.image_files import CHANNELS, check_and_decode
from longtail.data.loader import image_array
from longtail.data.pixel_sums import pixel_sums

CONTENT, HASH, SKETCH, SUMS = "content", "hash", "sketch", "sums"

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
        # Sums and sums of squares of the pixels as a training has them, (2, channels) int64; null if it is skipped.
        pa.field(SUMS, pa.binary()),
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


class Examination:
    """Decodes files once, as they are read, and keeps what their fingerprints need.

    sums: of each file, (2, channels) int64
    small: of each file, (ENCODED_SIDE, ENCODED_SIDE, CHANNELS) uint8
    """

    def __init__(self, size: int) -> None:
        """size: of the side of the images that a training has"""
        self.size = size
        self.sums: list[np.ndarray] = []
        self.small: list[np.ndarray] = []

    def __call__(self, content: bytes) -> None:
        """Check a file as check_image does. May raise BAD_IMAGE."""
        image, small = check_and_decode(content, (self.size, ENCODED_SIDE))
        self.sums.append(np.concatenate(pixel_sums(image[None])))
        self.small.append(small)


def fingerprints(
    rows: pa.RecordBatch, image_shape: tuple[int, int, int], encoding: str, *, examined: Examination | None = None
) -> pa.RecordBatch:
    """The fingerprints (FINGERPRINT_SCHEMA) of rows of a source (SOURCE_SCHEMA).

    examined: of ENCODED rows, what was found when they were read; by default they are decoded here
    """
    images = rows.column(IMAGE)
    is_skipped = pc.equal(rows.column(SPLIT), SKIPPED).to_numpy(zero_copy_only=False)
    whole = images if not is_skipped.any() else images.filter(pa.array(~is_skipped))
    sums = np.zeros((len(images), 2, image_shape[2]), np.int64)
    frequencies = np.zeros((len(images), NUM_FREQUENCIES), np.float32)
    if encoding == ENCODED:
        if examined is None:
            examined = Examination(image_shape[0])
            for image in whole.to_pylist():
                examined(image)
        sums[~is_skipped] = np.array(examined.sums, np.int64).reshape(-1, *sums.shape[1:])
        small = np.array(examined.small, np.uint8).reshape(-1, ENCODED_SIDE, ENCODED_SIDE, CHANNELS)
        frequencies[~is_skipped] = _frequencies(small)
    else:
        pixels = image_array(whole, image_shape)
        sums[~is_skipped] = np.stack(pixel_sums(pixels), axis=1)
        if has_near_copies(image_shape, encoding):
            frequencies[~is_skipped] = _frequencies(pixels)
    flat = pa.array(_contrast(frequencies) < MIN_CONTRAST)
    nothing, skipped = pa.scalar(None, pa.binary()), pa.array(is_skipped)
    columns = [
        *(rows.column(name) for name in (ID, LABEL, SPLIT)),
        pa.array([_hash_of_bytes(image) for image in rows_of_bytes(images)], pa.int64()),
        pc.if_else(flat, pa.scalar(None, pa.int64()), pa.array(sign_hashes(frequencies))),
        pc.if_else(flat, nothing, rows_as_bytes(frequencies.astype(np.float16))),
        pc.if_else(skipped, nothing, rows_as_bytes(sums)),
        pc.if_else(skipped, images, nothing),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FINGERPRINT_SCHEMA)


def sums_array(column: pa.Array) -> np.ndarray:
    """(N, 2, channels) int64 of a column SUMS without nulls."""
    return np.frombuffer(b"".join(column.to_pylist()), np.int64).reshape(len(column), 2, -1)


def _frequencies(images: np.ndarray) -> np.ndarray:
    """The low frequencies of images (N, height, width, channels) uint8, a few at once."""
    parts = [low_frequencies(images[first : first + IMAGES_AT_ONCE]) for first in range(0, len(images), IMAGES_AT_ONCE)]
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


def _contrast(frequencies: np.ndarray) -> np.ndarray:
    return np.linalg.norm(frequencies, axis=1)


def _basis(length: int) -> np.ndarray:
    """(SIDE, length), the rows of the transform; constants become 1, 0, 0, ..."""
    phases = np.outer(np.arange(SIDE), 2 * np.arange(length) + 1) * np.pi / (2 * length)
    basis = np.cos(phases) * np.sqrt(2) / length
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def _hash_of_bytes(content: memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
