"""Pickles of arrays: damaged ones, and programs of random instructions."""

import pickle
import struct
from pathlib import Path
from random import Random

import numpy as np

from longtail.data.unpickle import arrays_of
from tests.fuzz.mutation import NUMBERS, damaged

KEYS = ["data", "extrapolated_targets"]
_ARRAYS = {
    "data": np.arange(48, dtype=np.uint8).reshape(2, 24),
    "extrapolated_targets": np.array([3, 1], np.int64),
}
_LISTS = {b"data": np.asfortranarray(_ARRAYS["data"]), b"extrapolated_targets": [3, 1], "f": np.float32(1.5)}
SEEDS = [pickle.dumps(value, protocol=protocol) for value in (_ARRAYS, _LISTS) for protocol in range(6)]

_TEXTS = (
    "numpy", "dtype", "ndarray", "numpy.core.multiarray", "numpy._core.multiarray", "_reconstruct", "scalar",
    "_frombuffer", "numpy._core.numeric", "latin1", "_codecs", "encode", "u1", "i8", "f4", "O", "V8", "data", "C",
    "<", "extrapolated_targets", "builtins", "getattr", "os", "system",
)  # fmt: skip
TOKENS = [
    *(bytes([code]) for code in b"(.0123BCFGIJKLMNQRSTUVX]abcdeghijlopqrstu)}\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b"
      b"\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98"),
    *(b"\x8c" + bytes([len(text)]) + text.encode() for text in _TEXTS),
    *(b"U" + bytes([len(text)]) + text.encode() for text in _TEXTS),
    *(b"J" + struct.pack("<I", number % 2**32) for number in NUMBERS),
    *(b"\x8a\x08" + struct.pack("<Q", number) for number in NUMBERS),
    *(b"r" + struct.pack("<I", number % 2**32) for number in NUMBERS),
    *(b"h" + bytes([place]) for place in range(8)),
    *(b"q" + bytes([place]) for place in range(8)),
    *(b"c" + name + b"\n" for name in (b"numpy\ndtype", b"numpy\nndarray", b"numpy.core.multiarray\n_reconstruct",
      b"numpy.core.multiarray\nscalar", b"numpy._core.numeric\n_frombuffer", b"_codecs\nencode", b"builtins\neval")),
    b"C\x08abcdefgh", b"K\x00", b"K\x02", b"I-1\n", b"L99L\n", b"S'ab'\n", b"Vab\n", b"F1.5\n", b")", b"N",
    b"(K\x08t", b"\x89\x88\x87R", b"(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
]  # fmt: skip


def generate(random: Random) -> bytes:
    if random.random() < 0.3:
        return b"".join(random.choices(TOKENS, k=random.randrange(1, 60))) + b"."
    return damaged(random.choice(SEEDS), random, tokens=TOKENS)


def read(content: bytes, directory: Path) -> None:
    for array in arrays_of(content, KEYS, path=Path("file")).values():
        array.sum()
        np.ascontiguousarray(array)
