"""Image files of the user's: shards of files, and their reading.

A file is stored unchanged, never encoded again. Each is decoded to the last pixel once, when the set is prepared, so
that no training meets a damaged one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.contract import ENCODED, RAW, SOURCE_SCHEMA
from longtail.data.image_files import BAD_IMAGE, CHANNELS, check_image, decode
from longtail.data.longtail import validation_counts
from longtail.data.sources.base import Located, UserImageShard

IMAGES_PER_SHARD = 256


@dataclass(frozen=True)
class ImageShard(UserImageShard):
    """Image files that one task reads; their ids are consecutive.

    path: the directory to which names are relative
    names, labels: (N,)
    encoding: ENCODED to store the files, RAW to store pixels of ``size`` x ``size``
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    encoding: str
    size: int


def shards_of(
    directory: Path,
    images: Sequence[tuple[str, int]],
    split: str,
    *,
    first_id: int,
    skip_bad: bool,
    encoding: str = ENCODED,
    size: int = 0,
) -> list[ImageShard]:
    """Shards of IMAGES_PER_SHARD files for images (name, label)."""
    shards = []
    for start in range(0, len(images), IMAGES_PER_SHARD):
        names, labels = zip(*images[start : start + IMAGES_PER_SHARD], strict=True)
        shards.append(
            ImageShard(
                directory, split, len(shards), first_id + start, names, labels, encoding, size, skip_bad=skip_bad
            )
        )
    return shards


def located_tree(
    options: DataOptions,
    class_names: Sequence[str],
    train: Sequence[tuple[str, int]],
    test: Sequence[tuple[str, int]],
    *,
    origin: str,
) -> Located:
    """The user's images (name, label) below --path; without test images, a share of each class becomes the test set."""
    assert options.path is not None
    if not test:
        train, test = without_test_share(train, options, num_classes=len(class_names))
        origin += f", test set: {options.test_fraction:g} of each class"
    counts = np.bincount([label for _, label in train], minlength=len(class_names))
    if len(class_names) < 2:
        raise UserError(f"{options.path} has {len(class_names)} classes: at least two are needed")
    if not counts.all():
        empty = class_names[int(counts.argmin())]
        raise UserError(f"{options.path} has no training image of the class {empty!r}: remove the class or fill it")
    if not test:
        raise UserError(f"{options.path} has no image for the test set: at least one class of two images is needed")
    skip_bad = options.on_bad_image == "skip"
    shards = [
        *shards_of(options.path, train, TRAIN, first_id=0, skip_bad=skip_bad),
        *shards_of(options.path, test, TEST, first_id=len(train), skip_bad=skip_bad),
    ]
    return Located(
        shards=shards,
        origin=origin,
        class_names=list(class_names),
        image_shape=(options.image_size, options.image_size, CHANNELS),
        encoding=ENCODED,
        num_images=len(train) + len(test),
    )


def without_test_share(
    images: Sequence[tuple[str, int]], options: DataOptions, *, num_classes: int
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Training and test images (name, label): --test_fraction of each class, chosen by a hash of name and seed.

    At least one of every class of two or more; both in the order of ``images``.
    """
    counts = np.bincount([label for _, label in images], minlength=num_classes).tolist()
    wanted = validation_counts(counts, val_fraction=options.test_fraction)
    left = [max(0, count) for count in wanted]  # the caller reports a class without images
    test = set()
    for image in sorted(images, key=lambda image: _hash(image[0], options.rand_number)):
        if left[image[1]]:
            left[image[1]] -= 1
            test.add(image)
    return [image for image in images if image not in test], [image for image in images if image in test]


def _hash(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def read(shard: ImageShard) -> pa.RecordBatch:
    """The shard's rows. Raises UserError at a bad image, unless the shard skips bad ones."""
    ids, contents, labels = [], [], []
    for index, (name, label) in enumerate(zip(shard.names, shard.labels, strict=True)):
        try:
            content = (shard.path / name).read_bytes()
            if shard.encoding == RAW:
                content = decode(content, shard.size).tobytes()
            elif not shard.is_checked:
                check_image(content)
        except BAD_IMAGE as error:
            if shard.skip_bad:
                continue
            reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
            raise UserError(
                f"{shard.path / name} cannot be decoded ({reason}): repair it, or skip it with --on_bad_image skip"
            ) from None
        ids.append(shard.first_id + index)
        contents.append(content)
        labels.append(label)
    columns = [
        pa.array(ids, pa.int64()),
        pa.array(contents, pa.binary()),
        pa.array(labels, pa.int32()),
        pa.array([shard.split] * len(ids), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)
