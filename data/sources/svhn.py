"""SVHN, cropped digits, from the official MATLAB files: in --data_dir or its svhn/, or downloaded.

A file contains X, 32 x 32 x 3 x N uint8, and y, N x 1, in which 10 is the digit 0. As in the published long-tailed
sets, the head class is digit 1 and the last tail class digit 0. Each file is verified before it is read. A task reads
at most IMAGES_PER_SHARD images (300 MB).
"""

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED
from longtail.data.local_copies import local_copy
from longtail.data.sources.base import Located, Shard, check_labels, source_batch
from longtail.data.sources.download import download, verify_sha256
from longtail.data.sources.mat_files import read_bytes_of

CLASS_NAMES = [str(digit) for digit in range(10)]
IMAGE_SHAPE = (32, 32, 3)
HEAD_TO_TAIL = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
NUM_TRAIN, NUM_TEST, NUM_EXTRA = 73_257, 26_032, 531_131
IMAGES_PER_SHARD = 100_000

OFFICIAL_URL = "https://ufldl.stanford.edu/housenumbers"
FILE = {TRAIN: "train_32x32.mat", TEST: "test_32x32.mat", UNLABELED: "extra_32x32.mat"}
_SHA256 = {
    TRAIN: "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    TEST: "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    UNLABELED: "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
}


def locate(options: DataOptions) -> Located:
    paths, origin = find_files(options.data_dir.absolute(), (TRAIN, TEST))
    train = shards_of(paths[TRAIN], TRAIN, NUM_TRAIN, first_id=0)
    return located([*train, *shards_of(paths[TEST], TEST, NUM_TEST, first_id=NUM_TRAIN)], origin)


def shards_of(path: Location, split: str, num_images: int, *, first_id: int) -> list[Shard]:
    """Divide a file of ``num_images`` images."""
    return [
        Shard(path, split, index, first_id + first)
        for index, first in enumerate(range(0, num_images, IMAGES_PER_SHARD))
    ]


def find_files(data_dir: Location, splits: tuple[str, ...]) -> tuple[dict[str, Location], str]:
    """Path of each split's file, and their origin. Raises UserError if one can be neither found nor downloaded."""
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
    """SVHN with these shards."""
    return Located(
        shards=shards, origin=origin, class_names=CLASS_NAMES, image_shape=IMAGE_SHAPE, head_to_tail=HEAD_TO_TAIL
    )


def read(shard: Shard) -> pa.RecordBatch:
    # Every job imports every source; these imports take seconds.
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    path = local_copy(shard.path)
    verify_sha256(path, _SHA256[shard.split])
    try:
        shape, kind = {name: (shape, kind) for name, shape, kind in whosmat(path)}["X"]
        *image_shape, num_images = shape
        labels = loadmat(path, variable_names=["y"])["y"].reshape(-1).astype(np.int64)
    # Exceptions for a damaged file, and for a file of another content.
    except (OSError, EOFError, KeyError, ValueError, TypeError, IndexError, zlib.error, MatReadError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as SVHN ({reason}): delete it and run again") from None
    if tuple(image_shape) != IMAGE_SHAPE or kind != "uint8":
        raise UserError(f"{path} holds images of {kind} {tuple(image_shape)}, SVHN's are uint8 {IMAGE_SHAPE}")
    check_labels(labels - 1, num_classes=len(CLASS_NAMES), path=path)
    if len(labels) != num_images:
        raise UserError(f"{path} has {num_images} images and {len(labels)} labels: get the files again")
    first = shard.index * IMAGES_PER_SHARD
    labels = labels[first : first + IMAGES_PER_SHARD]
    return source_batch(shard, _images(path, first, len(labels)), labels % 10)


def _images(path: Path, first: int, num_images: int) -> np.ndarray:
    """(num_images, 32, 32, 3) uint8, beginning with the image at index ``first``."""
    height, width, channels = IMAGE_SHAPE
    image_bytes = height * width * channels
    try:
        content = read_bytes_of(path, "X", first=first * image_bytes, num_bytes=num_images * image_bytes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} cannot be read as SVHN ({error}): delete it and run again") from None
    # Fortran order: the row index changes fastest, then column, channel and image.
    pixels = np.frombuffer(content, np.uint8).reshape(num_images, channels, width, height)
    return np.ascontiguousarray(pixels.transpose(0, 3, 2, 1))
