"""MATLAB files: damaged ones, and those whose compressed elements are damaged within."""

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from scipy.io import savemat

from longtail.data.sources.svhn import _images
from tests.fuzz.mutation import NUMBERS, damaged

_IMAGES = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)


def _file(*, compressed: bool) -> bytes:
    file = io.BytesIO()
    savemat(file, {"y": np.array([[1], [2]], np.uint8), "X": _IMAGES}, do_compression=compressed)
    return file.getvalue()


_PLAIN = _file(compressed=False)
SEEDS = [_PLAIN, _file(compressed=True)]
_TOKENS = [
    *(struct.pack("<II", kind, number % 2**32) for kind in (1, 2, 5, 6, 14, 15) for number in NUMBERS),
    struct.pack("<HHI", 1, 1, ord("X")),
]


def generate(random: Random) -> bytes:
    if random.random() < 0.6:
        # Damage where arrays are described, not in the pixels.
        seed = random.choice(SEEDS)
        return damaged(seed[:300], random, tokens=_TOKENS) + seed[300:]
    elements = damaged(_PLAIN[128 : 128 + 300], random, tokens=_TOKENS) + _PLAIN[428:]
    packed = zlib.compress(elements, 1)
    return _PLAIN[:128] + struct.pack("<II", 15, len(packed)) + packed


def read(content: bytes, directory: Path) -> None:
    file = directory / "train.mat"
    file.write_bytes(content)
    _images(file, 0, 2).sum()
