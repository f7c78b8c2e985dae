"""Lists of images."""

from pathlib import Path
from random import Random

from longtail.conf.options.prepare import PrepareOptions
from longtail.data.sources import image_list
from tests.fuzz.mutation import damaged

_SEEDS = [
    b"train/n01440764/a.jpg 0\ntrain/n01440764/b.jpg 0\ntrain/n01443537/c d.jpg 1\n",
    b'image,label\r\na.jpg,cat\r\n"b,c.jpg",dog\r\n',
    "\ufeffa.jpg\t0\nb.jpg\t1\n".encode(),
    "é.jpg cat\nb.jpg dog\n".encode("utf-16"),
]
_TOKENS = [
    b"\n", b"\r", b" ", b"\t", b",", b'"', b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"../", b"/", b"-1", b"#", b"\x1b[31m",
    b"99999999999999999999", b" " * 10_000, b"9" * 10_000, b"9" * 200_000, "é\u2028\u0085".encode(), b"\x0b\x0c\x1c",
]  # fmt: skip


def generate(random: Random) -> bytes:
    return damaged(random.choice(_SEEDS), random, tokens=_TOKENS)


def read(content: bytes, directory: Path) -> None:
    file = directory / "list.txt"
    file.write_bytes(content)
    options = PrepareOptions(dataset="image_list", path=directory, list_file=file, image_size=8)
    image_list.locate(options)
