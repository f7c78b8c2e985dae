"""The idx files of MNIST, packed or not."""

import gzip
from pathlib import Path
from random import Random

from longtail.data.sources.idx_files import parse_idx, unpack
from tests.fuzz.mutation import damaged

_IMAGES = bytes.fromhex("00000803 00000002 00000003 00000004") + bytes(range(24))
_LABELS = bytes.fromhex("00000801 00000002 0703")
_BOMB = gzip.compress(bytes(60_000_000), compresslevel=1)


def generate(random: Random) -> bytes:
    content = random.choice((_IMAGES, _LABELS))
    if random.random() < 0.002:
        return damaged(_BOMB, random) if random.random() < 0.5 else _BOMB
    if random.random() < 0.5:
        return damaged(gzip.compress(content, mtime=0), random)
    return gzip.compress(damaged(content, random, tokens=[_IMAGES[:16], _LABELS[:8]]), compresslevel=0, mtime=0)


def read(content: bytes, directory: Path) -> None:
    file = directory / "images.gz"
    file.write_bytes(content)
    unpacked = unpack(file)
    parse_idx(unpacked, path=file, num_dimensions=1 if unpacked[3:4] == b"\1" else 3).sum()
