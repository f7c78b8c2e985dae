"""Decoding of JPEG and PNG files.

An image is scaled so that its shorter side has the requested length, and cropped to the central square; greyscale and
palette images become RGB.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from longtail.conf.base.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
CHANNELS = 3

# Exceptions of PIL for a file that is not an image, or is truncated.
BAD_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(content: bytes, size: int) -> np.ndarray:
    """A file's pixels as (size, size, 3) uint8. May raise BAD_IMAGE."""
    with Image.open(io.BytesIO(content)) as picture:
        # JPEG can decode at a half, a quarter, ...: several times faster for large images.
        picture.draft("RGB", (2 * size, 2 * size))
        return np.asarray(ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR))


def check_image(content: bytes) -> None:
    """Decode to the last pixel, at full size. May raise BAD_IMAGE."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()


def decode_files(column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode an Arrow column of files to one (N, *shape) uint8 array, with as many threads as cores.

    Raises UserError if one cannot be decoded.
    """
    images = np.empty((len(column), *shape), np.uint8)

    def fill(index: int) -> None:
        try:
            images[index] = decode(column[index].as_py(), shape[0])
        except BAD_IMAGE as error:
            raise UserError(f"image {index} of a set cannot be decoded ({error}): prepare the set again") from None

    # PIL releases the GIL while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(fill, range(len(column))):
            pass
    return images
