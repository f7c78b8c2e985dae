"""Fashion-MNIST from the official idx files.

Looked for in --data_dir (the files themselves or fashion-mnist/), then where
Debian's package dataset-fashion-mnist puts them, then downloaded from the
publishers' site.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from conf.errors import UserError
from data.contract import TEST, TRAIN
from data.sources.base import Located, Shard, source_batch
from data.sources.download import download

CLASS_NAMES = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
IMAGE_SHAPE = (28, 28, 1)

DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
OFFICIAL_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

_PREFIX = {TRAIN: "train", TEST: "t10k"}
_NUM_IMAGES = {TRAIN: 60_000, TEST: 10_000}
# SHA-256 of the unpacked idx files.
_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def locate(data_dir: Path) -> Located:
    own = data_dir / "fashion-mnist"
    for directory in (data_dir, own, DEBIAN_DIRECTORY):
        if all((directory / name).is_file() for name in _SHA256):
            return _located(directory, f"official idx files in {directory.name}")
    try:
        for name in _SHA256:
            if not (own / name).is_file():
                download(f"{OFFICIAL_URL}/{name}", own / name)
    except UserError as error:
        raise UserError(
            f"Fashion-MNIST is neither in {own} nor in {DEBIAN_DIRECTORY}, and {error}: put the four official "
            f".gz files into {own}, or `apt-get install dataset-fashion-mnist`"
        ) from None
    return _located(own, "official download")


def _located(directory: Path, origin: str) -> Located:
    return Located([Shard(directory, TRAIN, 0, 0), Shard(directory, TEST, 0, _NUM_IMAGES[TRAIN])], origin)


def read(shard: Shard) -> pa.RecordBatch:
    prefix = _PREFIX[shard.split]
    images = _idx_payload(shard.path / f"{prefix}-images-idx3-ubyte.gz", header_bytes=16)
    labels = _idx_payload(shard.path / f"{prefix}-labels-idx1-ubyte.gz", header_bytes=8)
    return source_batch(shard, images.reshape(-1, *IMAGE_SHAPE), labels)


def _idx_payload(path: Path, *, header_bytes: int) -> np.ndarray:
    """The bytes after the idx header, of a file that is known whole."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): delete it and run again") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[path.name]:
        raise UserError(
            f"{path} is not the official file: SHA-256 {digest}, expected {_SHA256[path.name]}; delete it and run again"
        )
    return np.frombuffer(content, np.uint8)[header_bytes:]
