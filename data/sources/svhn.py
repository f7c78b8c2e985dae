"""SVHN, cropped digits, from the official MATLAB files: in --data_dir or its svhn/, or downloaded.

A file holds X, 32 x 32 x 3 x N uint8, and y, N x 1, in which 10 means the digit
0. As the published long-tailed sets count classes, the head is digit 1 and the
tail is digit 0. Each file is verified by the MD5 that torchvision knows it by.
"""

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from conf.errors import UserError
from conf.schema import DataOptions
from data.contract import TEST, TRAIN, UNLABELED
from data.sources.base import Located, Shard, check_labels, source_batch
from data.sources.download import download

CLASS_NAMES = [str(digit) for digit in range(10)]
IMAGE_SHAPE = (32, 32, 3)
HEAD_TO_TAIL = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
NUM_TRAIN = 73_257

OFFICIAL_URL = "http://ufldl.stanford.edu/housenumbers"
FILE = {TRAIN: "train_32x32.mat", TEST: "test_32x32.mat", UNLABELED: "extra_32x32.mat"}
_MD5 = {
    TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
    TEST: "eb5a983be6a315427106f1b164d9cef3",
    UNLABELED: "a93ce644f1a588dc4d68dda5feec44a7",
}


def locate(options: DataOptions) -> Located:
    paths, origin = find_files(options.data_dir.absolute(), (TRAIN, TEST))
    return located([Shard(paths[TRAIN], TRAIN, 0, 0), Shard(paths[TEST], TEST, 0, NUM_TRAIN)], origin)


def find_files(data_dir: Path, splits: tuple[str, ...]) -> tuple[dict[str, Path], str]:
    """Path of each split's file, and where they came from. Raises UserError if one cannot be had."""
    own = data_dir / "svhn"
    for directory in (data_dir, own):
        if all((directory / FILE[split]).is_file() for split in splits):
            return {split: directory / FILE[split] for split in splits}, "official MATLAB files"
    try:
        for split in splits:
            if not (own / FILE[split]).is_file():
                download(f"{OFFICIAL_URL}/{FILE[split]}", own / FILE[split])
    except UserError as error:
        names = " and ".join(FILE[split] for split in splits)
        raise UserError(f"SVHN is not in {data_dir}, and {error}: put {names} into {own}") from None
    return {split: own / FILE[split] for split in splits}, "official download"


def located(shards: list[Shard], origin: str) -> Located:
    return Located(
        shards=shards, origin=origin, class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE, head_to_tail=HEAD_TO_TAIL
    )


def read(shard: Shard) -> pa.RecordBatch:
    # Every job knows of every source: only who reads this one waits for the imports.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = shard.path
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        content = loadmat(path, variable_names=["X", "y"])
        images = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))  # (32, 32, 3, N) to (N, 32, 32, 3)
        labels = content["y"].reshape(-1).astype(np.int64)
    # What a damaged file raises, and a file of another content.
    except (OSError, EOFError, KeyError, ValueError, TypeError, IndexError, zlib.error, MatReadError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as SVHN ({reason}): delete it and run again") from None
    if images.shape[1:] != IMAGE_SHAPE or images.dtype != np.uint8:
        raise UserError(f"{path} holds images of {images.dtype} {images.shape[1:]}, SVHN's are uint8 {IMAGE_SHAPE}")
    check_labels(labels - 1, num_classes=len(CLASS_NAMES), path=path)
    if digest != _MD5[shard.split]:
        raise UserError(
            f"{path} is not the official file: MD5 {digest}, expected {_MD5[shard.split]}; delete it and run again"
        )
    return source_batch(shard, images, labels % 10)
