"""JPEG and PNG files as they are, and what they become when they are loaded.

An image is scaled so that its shorter side has the wanted length, and cut to
its middle square; grey ones and palettes become RGB.
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

# What PIL raises for a file that is no image or not a whole one.
BAD_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(content: bytes, size: int) -> np.ndarray:
    """A file's pixels as (size, size, 3) uint8. May raise BAD_IMAGE."""
    with Image.open(io.BytesIO(content)) as picture:
        # JPEG's own halving, as long as twice the wanted size is left: several times faster for large pictures.
        picture.draft("RGB", (2 * size, 2 * size))
        return np.asarray(ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR))


def check_image(content: bytes) -> None:
    """Decode to the last pixel, at full size. May raise BAD_IMAGE."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()


def decoded_images(column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int]) -> np.ndarray:
    """The images of an Arrow column of files as one (N, *shape) uint8 array, decoded by as many threads as cores.

    Raises UserError if one cannot be decoded.
    """
    images = np.empty((len(column), *shape), np.uint8)

    def fill(place: int) -> None:
        try:
            images[place] = decode(column[place].as_py(), shape[0])
        except BAD_IMAGE as error:
            raise UserError(f"image {place} of a set cannot be decoded ({error}): prepare the set again") from None

    # PIL decodes without Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(fill, range(len(column))):
            pass
    return images
