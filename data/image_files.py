"""Decoding of image files: JPEG, PNG, WebP, GIF, BMP and TIFF, whatever their names say.

An image is turned upright (EXIF), becomes RGB, is scaled so that its shorter side has the requested length, and cropped
to the central square.

- Transparent pixels show white, as in most viewers.
- 16-bit grey v becomes round(v / 257), so that white stays white; 12-bit grey (TIFF) is scaled in the same way.
- Of an animation, or of several pages, the first image is taken.
- Floating-point and 32-bit pixels have no white and are refused.
"""

import ctypes
import io
import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from longtail.conf.base.errors import UserError

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff",
})  # fmt: skip
UNREAD_SUFFIXES = frozenset({
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".jxl", ".svg", ".svgz", ".eps", ".ps", ".pdf", ".psd", ".xcf",
    ".ai", ".ico", ".icns", ".cur", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pcx", ".tga", ".dds", ".exr", ".hdr",
    ".fits", ".fit", ".dcm", ".nii", ".mha", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".raw",
    ".sgi", ".ras", ".xbm", ".xpm", ".emf", ".wmf", ".dib",
})  # fmt: skip
"""Of files that are images too, and are not read."""
CHANNELS = 3

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names of the formats that are read. Without them it would run Ghostscript on PostScript of any name."""
_JPEG = b"\xff\xd8\xff"
_SIGNATURES = (_JPEG, b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
FIRST_BYTES = (*_SIGNATURES, b"RIFF")
"""With one of them a file of FORMATS begins."""
KINDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_ALWAYS_DECODED, _PIXELS_PER_BYTE = 2**24, 10_000
"""A larger image has a byte for so many pixels: a white PNG file has 344 (colours) to 8,256 (1 bit) in one."""
_PNG_BITS = 24
"""Where a PNG file has the number of bits of a channel."""
BAD_IMAGE = (OSError, ValueError)
"""Exceptions of a file that cannot be read or is not an image."""

# Of damaged EXIF, which leaves the pixels as they are; a damaged file is refused all the same.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
# An image of more than 90 million pixels is decoded in silence; Pillow refuses one of twice as many.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF but 1, which is upright."""


def _silence_libtiff() -> None:
    """Keep libtiff from printing lines of its own about damaged files, which are refused by name all the same.

    Pillow has no setting for it. The library is found through Pillow's own module, whether it is part of Pillow or of
    the system; without it there is nothing to silence.
    """
    try:
        library = ctypes.CDLL(Image.core.__file__)
        for kind in ("Error", "Warning"):
            set_handler = getattr(library, f"TIFFSet{kind}Handler")
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
    except (OSError, AttributeError):
        pass


_silence_libtiff()
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # it logs errors of damaged files, which are refused by name


def decode(content: bytes, size: int) -> np.ndarray:
    """A file's pixels as (size, size, 3) uint8. May raise BAD_IMAGE."""
    # JPEG can decode at a half, a quarter, ...: several times faster for large images.
    return _square(_upright_rgb(content, draft_size=2 * size), size)


def check_image(content: bytes) -> None:
    """Decode to the last pixel, at full size. May raise BAD_IMAGE."""
    _upright_rgb(content)


def check_and_decode(content: bytes, sizes: Sequence[int]) -> list[np.ndarray]:
    """What decode() gives for each size, of a file that is checked as by check_image, which is decoded once if it can.

    May raise BAD_IMAGE.
    """
    whole = _upright_rgb(content)
    is_jpeg = content.startswith(_JPEG)
    # Where JPEG is decoded at a fraction, the pixels differ from those that the whole image is scaled to.
    reduced = [is_jpeg and min(whole.size) >= 2 * (2 * size) for size in sizes]
    return [
        decode(content, size) if is_reduced else _square(whole, size)
        for size, is_reduced in zip(sizes, reduced, strict=True)
    ]


def begins_as_file(content: bytes) -> bool:
    """Whether bytes begin as a file of one of FORMATS does."""
    return content.startswith(_SIGNATURES) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


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


def _square(picture: Image.Image, size: int) -> np.ndarray:
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR))


def _upright_rgb(content: bytes, *, draft_size: int | None = None) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            _check_size(picture, len(content))
            if draft_size is not None:
                picture.draft("RGB", (draft_size, draft_size))
            _check_transparent_value(picture, content)
            picture.load()  # a TIFF file becomes upright here
            rgb = _rgb(picture)
            turn = _UPRIGHT.get(_orientation(picture))
            return rgb if turn is None else rgb.transpose(turn)
    except Image.UnidentifiedImageError:
        raise ValueError(f"it is not a {KINDS} file") from None
    except BAD_IMAGE:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise nearly anything at damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _check_size(picture: Image.Image, num_bytes: int) -> None:
    """Raise ValueError if a few bytes say that they are a very large image, before memory is taken for it."""
    num_pixels = picture.width * picture.height
    if num_pixels > max(_ALWAYS_DECODED, _PIXELS_PER_BYTE * num_bytes):
        raise ValueError(f"it has {picture.width} x {picture.height} pixels in {num_bytes} bytes, as no photograph has")


def _check_transparent_value(picture: Image.Image, content: bytes) -> None:
    """Bring the transparent value of a PNG file to 8 bits, as Pillow brings the pixels but not the value.

    Raises ValueError for 16 bits, where many values become the same.
    """
    if not isinstance(picture, PngImagePlugin.PngImageFile):
        return
    bits, value = content[_PNG_BITS], picture.info.get("transparency")
    if value is not None and bits == 16:
        raise ValueError("it has 16-bit pixels with a transparent value: convert it to 8 bits")
    if isinstance(value, int) and picture.mode == "L" and bits < 8:
        picture.info["transparency"] = value * 255 // (2**bits - 1)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(picture)).convert("RGB")
    if picture.mode in ("I", "F"):
        kind = "32-bit integer or signed" if picture.mode == "I" else "floating-point"
        raise ValueError(f"it has {kind} pixels, of which no value is white: convert it to 8 bits")
    if picture.has_transparency_data:
        colours = picture.convert("RGBA") if picture.mode != "RGBA" else picture
        white = Image.new("RGB", colours.size, "white")
        white.paste(colours, mask=colours)
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> np.ndarray:
    """(height, width) uint8 of a 16-bit grey image."""
    tags = getattr(picture, "tag_v2", {})  # of a TIFF file
    (bits,) = tags.get(ExifTags.Base.BitsPerSample, (16,))
    white = 2**bits - 1
    grey = np.minimum((np.arange(2**16) * 255 + white // 2) // white, 255).astype(np.uint8)  # by value
    is_white_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return (255 - grey if is_white_zero else grey)[np.asarray(picture)]


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation; 1 if there is none, or if EXIF is damaged, which viewers ignore too."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - see _upright_rgb
        return 1
