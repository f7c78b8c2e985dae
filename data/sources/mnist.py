"""MNIST from the official idx files: mnist/ in --data_dir, or downloaded.

MNIST and Fashion-MNIST have the same file names, so that these are not searched in --data_dir itself. Each file is
verified before it is unpacked.
"""

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.data.sources.base import Located, Shard
from longtail.data.sources.download import download, verify_sha256
from longtail.data.sources.idx_files import IMAGE_SHAPE, idx_batch, idx_shards, shard_files, unpack

CLASS_NAMES = [str(digit) for digit in range(10)]
# A mirror: the publishers' server requires a login.
URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
# Of the compressed files.
_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def locate(options: DataOptions) -> Located:
    directory = options.data_dir.absolute() / "mnist"
    missing = [name for name in _SHA256 if not (directory / name).is_file()]
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
    for path in shard_files(shard):
        verify_sha256(path, _SHA256[path.name])
        contents.append(unpack(path))
    return idx_batch(shard, *contents)
