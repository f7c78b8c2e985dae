"""Image files of all formats that are read."""

import io
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from longtail.data.any_image import pixels_of
from longtail.data.image_files import BAD_IMAGE, FORMATS, check_image, decode
from tests.fuzz.mutation import damaged

_TOKENS = [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"Exif\0\0", b"II*\0", b"GIF89a",
           b"RIFF\xff\xff\xff\xffWEBP", b"IHDR\0\1\0\0\0\1\0\0", b"tRNS", b"BM",
           b"P6\n9999999 9999999\n255\n"]  # fmt: skip


@cache
def _seeds() -> list[bytes]:
    grey = np.arange(12 * 9, dtype=np.uint8).reshape(12, 9)
    pictures = [
        Image.fromarray(grey),
        Image.fromarray(np.stack([grey] * 3, axis=2)),
        Image.fromarray(np.stack([grey] * 4, axis=2)),
        Image.fromarray(grey).convert("P"),
        Image.fromarray(grey.astype(np.uint16) * 257),
    ]
    seeds = []
    for picture in pictures:
        for kind in FORMATS:
            file = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            try:
                picture.save(file, kind, exif=exif)
            except (OSError, ValueError, TypeError):  # the format does not have such pixels
                continue
            seeds.append(file.getvalue())
    return seeds


def generate(random: Random) -> bytes:
    return damaged(random.choice(_seeds()), random, tokens=_TOKENS)


def read(content: bytes, directory: Path) -> None:
    for decoded in (lambda: decode(content, 8), lambda: check_image(content), lambda: pixels_of(content, (8, 8, 1))):
        try:
            decoded()
        except BAD_IMAGE as error:  # of which the caller makes a line with the file's name
            assert str(error) or isinstance(error, OSError)
