"""One image, in whatever form a user's row holds it, as the pixels that a network takes.

A value is one of

- the bytes of an image file, or a struct with such ``bytes``, as Hugging Face's data sets have;
- uint8 pixels in row order: with height, width and channels (SIZED_PIXELS), or else as many as the network takes;
- Spark's image struct;
- an array of uint8 (height, width, channels), or (height, width) of a grey image.

Files are decoded as those of a training are (data/image_files.py). Pixels of another size are scaled and cropped in the
same way; a network that takes one channel gets grey.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from longtail.data.image_files import BAD_IMAGE, FIRST_BYTES, KINDS, begins_as_file, decode
from longtail.data.sources.table_images import FROM_OPENCV, SIZE_COLUMNS, SPARK_FIELDS

SIZED_PIXELS = (*SIZE_COLUMNS, "pixels")
"""Fields of a value that consists of a table's image column and its size columns."""
_FIRST_BYTES = np.array([list(begin[:2]) for begin in FIRST_BYTES], np.uint8)
"""(n, 2), of the files of images."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def pixels_of(value: object, shape: tuple[int, int, int]) -> np.ndarray:
    """The value's pixels as uint8 of ``shape`` (height, width, channels). May raise BAD_IMAGE."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _of_bytes(bytes(value), shape)
    if isinstance(value, np.ndarray):
        pixels = value[..., None] if value.ndim == 2 else value
        if pixels.ndim != 3 or pixels.dtype != np.uint8 or not pixels.size or pixels.shape[2] not in _MODES:
            raise ValueError(
                f"it is an array of {value.dtype} {value.shape}; uint8 of (height, width, channels), with 1, 3 or 4 "
                f"channels, was expected"
            )
        return _of_array(pixels, shape)
    if not isinstance(value, Mapping):
        raise ValueError("it is null" if value is None else f"it is of the type {type(value).__name__}")
    if value.keys() >= set(SPARK_FIELDS):
        return _of_spark_struct(value, shape)
    if value.keys() >= set(SIZED_PIXELS):
        return _of_sized_pixels(value, shape)
    return pixels_of(value.get("bytes"), shape)


def raw_pixels(column: pa.Array, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A column of bytes as (N, *shape) uint8, and (N,) bool: which rows are pixels of that shape for certain.

    The others are for pixels_of(); they are 0. Where all are certain, nothing is copied, and the result is for reading
    only. Another type of column has no row that is certain.
    """
    size = int(np.prod(shape))
    if not pa.types.is_binary(column.type) or not len(column):
        return np.zeros((len(column), *shape), np.uint8), np.zeros(len(column), bool)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    buffer = column.buffers()[2]
    content = np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
    is_certain = (np.diff(offsets) == size) & column.is_valid().to_numpy(zero_copy_only=False)
    starts = offsets[:-1][is_certain]
    if size > 1:
        begins = np.stack([content[starts], content[starts + 1]], axis=1)  # (n, 2)
        is_certain[is_certain] = ~(begins[:, None] == _FIRST_BYTES).all(axis=2).any(axis=1)
    if is_certain.all():
        pixels = content[offsets[0] : offsets[-1]].reshape(-1, *shape)
        pixels.flags.writeable = False
        return pixels, is_certain
    pixels = np.zeros((len(column), size), np.uint8)
    for row in np.flatnonzero(is_certain):
        pixels[row] = content[offsets[row] : offsets[row + 1]]
    return pixels.reshape(-1, *shape), is_certain


def _of_bytes(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    is_as_long_as_pixels = len(content) == np.prod(shape)
    if begins_as_file(content) or not is_as_long_as_pixels:
        try:
            return _of_file(content, shape)
        except BAD_IMAGE:
            # Pixels may begin as a file does: the first two bytes of a BMP file are common ones.
            if is_as_long_as_pixels:
                return np.frombuffer(content, np.uint8).reshape(shape)
            if begins_as_file(content):
                raise
            height, width, channels = shape
            raise ValueError(
                f"it is not a {KINDS} file, and its {len(content)} bytes are no pixels of {height} x {width} x "
                f"{channels} ({np.prod(shape)} bytes)"
            ) from None
    return np.frombuffer(content, np.uint8).reshape(shape)


def _of_file(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, _ = shape
    # decode() gives squares. Of another shape, what is beyond the shorter side is cropped.
    return _fitted(Image.fromarray(decode(content, max(height, width))), shape)


def _of_spark_struct(value: Mapping[str, Any], shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels, data = (value[name] for name in SPARK_FIELDS)
    if (height or 0) <= 0:
        raise ValueError("Spark could not decode it")
    return _of_array(_array(data, height, width, channels)[..., FROM_OPENCV[channels]], shape)


def _of_sized_pixels(value: Mapping[str, Any], shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels, pixels = (value[name] for name in SIZED_PIXELS)
    sizes = (height, width, channels)
    is_pixels = pixels is not None and None not in sizes and len(pixels) == np.prod(sizes)
    if not is_pixels:
        return pixels_of(pixels, shape)
    return _of_array(_array(pixels, height, width, channels), shape)


def _array(pixels: bytes | None, height: int, width: int, channels: int) -> np.ndarray:
    if channels not in FROM_OPENCV or len(pixels or b"") != height * width * channels:
        raise ValueError(f"it has {len(pixels or b'')} bytes for {height} x {width} pixels of {channels} channels")
    return np.frombuffer(pixels or b"", np.uint8).reshape(height, width, channels)


def _of_array(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    if pixels.shape == shape:
        return pixels
    channels = pixels.shape[2]
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else np.ascontiguousarray(pixels), _MODES[channels])
    if channels == 4:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return _fitted(picture.convert("RGB"), shape)


def _fitted(picture: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """The RGB picture, scaled and cropped to the shape."""
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"the network takes {channels} channels: give it pixels of {height} x {width} x {channels}")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture.convert("L"))[..., None] if channels == 1 else np.asarray(picture)
