"""MNIST from the official idx files: mnist/ in --data_dir, or downloaded.

MNIST and Fashion-MNIST have the same file names, so that these are not searched in --data_dir itself. Each file is
verified by the MD5 that torchvision publishes.
"""

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.data.sources.base import Located, Shard
from longtail.data.sources.download import download, verify_md5
from longtail.data.sources.idx_files import IMAGE_SHAPE, idx_batch, idx_shards, split_files, unpack

CLASS_NAMES = [str(digit) for digit in range(10)]
# A mirror: the publishers' server requires a login.
URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
# MD5 of the compressed files.
_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def locate(options: DataOptions) -> Located:
    directory = options.data_dir.absolute() / "mnist"
    missing = [name for name in _MD5 if not (directory / name).is_file()]
    try:
        for name in missing:
            download(f"{URL}/{name}", directory / name)
    except UserError as error:
        raise UserError(
            f"MNIST is not in {directory}, and {error}: put the four official .gz files into {directory}"
        ) from None
    origin = "official download" if missing else "official idx files"
    return Located(shards=idx_shards(directory), origin=origin, class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE)


def read(shard: Shard) -> pa.RecordBatch:
    contents = []
    for path in split_files(shard):
        contents.append(unpack(path))
        verify_md5(path.read_bytes(), _MD5[path.name], path=path, name="the file")
    return idx_batch(shard, *contents)
