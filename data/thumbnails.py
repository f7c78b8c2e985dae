"""Small pictures of a prepared set's images, for people to look at."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from longtail.conf.base.errors import UserError
from longtail.data.contract import ENCODED
from longtail.data.image_files import BAD_IMAGE, decode
from longtail.data.loader import image_array
from longtail.data.manifest import Manifest

MOST_PIXELS = 96
"""Width and height of a larger image's thumbnail."""
_EXACT_PIXELS = 64
"""Up to this size a thumbnail has the pixels themselves, as PNG; of larger ones JPEG takes a tenth of the bytes."""


def thumbnail(content: bytes, manifest: Manifest) -> tuple[str, bytes]:
    """Media type and file content of the thumbnail of an image, as the set has it: what the network sees, but smaller.

    Raises UserError if it is damaged.
    """
    picture = Image.fromarray(_pixels(content, manifest))
    if max(picture.size) > MOST_PIXELS:
        picture.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    if max(picture.size) <= _EXACT_PIXELS:
        picture.save(file, "PNG")
        return "image/png", file.getvalue()
    picture.save(file, "JPEG", quality=85)
    return "image/jpeg", file.getvalue()


def _pixels(content: bytes, manifest: Manifest) -> np.ndarray:
    """(height, width, 3) uint8, or (height, width) of an image without three channels: its first one."""
    height = manifest.image_shape[0]
    if manifest.encoding == ENCODED:
        try:
            return decode(content, height if height <= _EXACT_PIXELS else min(height, MOST_PIXELS))
        except BAD_IMAGE as error:
            raise UserError(f"an image of the set cannot be decoded ({error}): prepare the set again") from None
    pixels = image_array(pa.array([content], pa.binary()), manifest.image_shape)[0]
    return np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
