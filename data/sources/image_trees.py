"""Image files of the user's: shards of files, and their reading.

A file is stored unchanged, never encoded again. Each is decoded to the last pixel once, when the set is prepared, so
that no training meets a damaged one.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_file
from longtail.conf.base.locations import Location
from longtail.conf.base.names import check_class_names, remark_on_case, with_examples
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.contract import ENCODED, RAW, SKIPPED, SOURCE_SCHEMA, skipped_image
from longtail.data.image_files import BAD_IMAGE, CHANNELS, decode
from longtail.data.longtail import validation_counts
from longtail.data.sources.base import Located, UserImageShard

IMAGES_PER_SHARD = 16
"""Few, as images of a class are often neighbours: a file of a prepared set has whole shards."""


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

    def image_name(self, index: int) -> str:
        """The name below the shard's directory."""
        return self.names[index]


def shards_of(
    directory: Location,
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


@dataclass(frozen=True)
class Part:
    """The user's images (name, label) of one split, in a directory to which the names are relative.

    unread: files that are images of a kind that is not read
    remarks: on what else is not used
    """

    directory: Location
    images: Sequence[tuple[str, int]]
    unread: Sequence[str] = ()
    remarks: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{len({label for _, label in self.images})} classes, {len(self.images)} images"


def located_tree(
    options: DataOptions,
    class_names: Sequence[str],
    parts: Mapping[str, Part],
    *,
    origin: str,
) -> Located:
    """The user's images by split; without test images, a share of each training class becomes the test set."""
    check_class_names(class_names, where=options.path)
    unread = [name for part in parts.values() for name in part.unread]
    unread_remark = f" (not read: {with_examples(unread)})" if unread else ""
    if len(class_names) < 2:
        raise UserError(f"{options.path} has {len(class_names)} classes: at least two are needed{unread_remark}")
    _check_parts_differ(parts)
    if TEST not in parts:
        parts = {**parts, **_with_test_share(parts[TRAIN], options, num_classes=len(class_names))}
        origin += f"; test set: {options.test_fraction:g} of each class"
    counts = np.bincount([label for _, label in parts[TRAIN].images], minlength=len(class_names))
    if not counts.all():
        empty = class_names[int(counts.argmin())]
        raise UserError(
            f"{options.path} has no training image of the class {empty!r}: remove the class or fill it{unread_remark}"
        )
    if not parts[TEST].images:
        raise UserError(f"{options.path} has no image for the test set: at least one class of two images is needed")
    shards: list[ImageShard] = []
    first_id = 0
    for split in (TRAIN, TEST, VAL):
        if split in parts:
            directory, images = parts[split].directory, parts[split].images
            shards += shards_of(directory, images, split, first_id=first_id, skip_bad=options.on_bad_image == "skip")
            first_id += len(images)
    return Located(
        shards=shards,
        origin=origin + remark_on_case(class_names),
        class_names=list(class_names),
        image_shape=(options.image_size, options.image_size, CHANNELS),
        encoding=ENCODED,
        unread=unread,
    )


def _check_parts_differ(parts: Mapping[str, Part]) -> None:
    """Raise UserError if a file is in two splits: a network would be measured on what it learned."""
    found: dict[str, str] = {}
    for split, part in parts.items():
        directory = part.directory.resolve()
        for name, _ in part.images:
            path = os.path.normpath(f"{directory}/{name}")
            if (other := found.setdefault(path, split)) != split:
                raise UserError(f"{path} is in the {other} split and in the {split} split: leave it out of one of them")


def _with_test_share(part: Part, options: DataOptions, *, num_classes: int) -> dict[str, Part]:
    """Training and test images: --test_fraction of each class, chosen by a hash of name and seed.

    At least one of every class of two or more; both in the order of ``part``.
    """
    images = part.images
    counts = np.bincount([label for _, label in images], minlength=num_classes).tolist()
    wanted = validation_counts(counts, val_fraction=options.test_fraction)
    left = [max(0, count) for count in wanted]  # the caller reports a class without images
    test = set()
    for image in sorted(images, key=lambda image: _hash(image[0], options.rand_number)):
        if left[image[1]]:
            left[image[1]] -= 1
            test.add(image)
    return {
        TRAIN: Part(part.directory, [image for image in images if image not in test]),
        TEST: Part(part.directory, [image for image in images if image in test]),
    }


def _hash(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()


def read(shard: ImageShard) -> pa.RecordBatch:
    """The shard's rows. Raises UserError at a bad image, unless the shard skips bad ones."""
    contents, splits = [], []
    for name in shard.names:
        content, split = _content_and_split(name, shard)
        contents.append(content)
        splits.append(split)
    columns = [
        pa.array(np.arange(shard.first_id, shard.first_id + len(shard.names))),
        pa.array(contents, pa.binary()),
        pa.array(shard.labels, pa.int32()),
        pa.array(splits, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SOURCE_SCHEMA)


def _content_and_split(name: str, shard: ImageShard) -> tuple[bytes, str]:
    """IMAGE and SPLIT of the row of one image."""
    try:
        content = read_regular_file(shard.path / name)
        if shard.encoding == RAW:
            return decode(content, shard.size).tobytes(), shard.split
        if shard.check is not None:
            shard.check(content)
    except BAD_IMAGE as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        if shard.skip_bad:
            return skipped_image(str(shard.path / name), reason), SKIPPED
        raise UserError(
            f"{shard.path / name} cannot be decoded ({reason}): repair it, or skip it with --on_bad_image skip"
        ) from None
    return content, shard.split
