"""Fashion-MNIST from the official idx files.

They are searched in --data_dir and its fashion-mnist/, then in the directory of Debian's package
dataset-fashion-mnist, and else downloaded from the publishers' repository.
"""

import hashlib
from pathlib import Path

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.data.sources.base import Located, Shard
from longtail.data.sources.download import download
from longtail.data.sources.idx_files import IMAGE_SHAPE, idx_batch, idx_shards, shard_files, unpack

CLASS_NAMES = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip

DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
OFFICIAL_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"

# Of the uncompressed files: Debian has packed them anew.
_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def locate(options: DataOptions) -> Located:
    data_dir = options.data_dir.absolute()
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


def _located(directory: Location, origin: str) -> Located:
    return Located(shards=idx_shards(directory), origin=origin, class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE)


def read(shard: Shard) -> pa.RecordBatch:
    images, labels = (_verified(path) for path in shard_files(shard))
    return idx_batch(shard, images, labels)


def _verified(path: Location) -> bytes:
    """The uncompressed content of an official file. Raises UserError if it is another one."""
    content = unpack(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[path.name]:
        raise UserError(
            f"{path} is not the official file: SHA-256 {digest}, expected {_SHA256[path.name]}; delete it and run again"
        )
    return content
