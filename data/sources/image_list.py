"""Images named by lists (data/sources/list_files.py). ImageNet-LT and iNaturalist 2018 have such lists.

Labels are whole numbers or names. Classes are the labels of the training list, in the order of the numbers or of the
names; numbers may have gaps.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import class_name_of
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.sources import image_trees
from longtail.data.sources.base import Located
from longtail.data.sources.image_trees import ImageShard, Part, located_tree
from longtail.data.sources.list_files import ListedImage, read_list

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_CLASS_NUMBER = re.compile(r"[0-9]{1,18}")
_ROLES = {TRAIN: "", TEST: "test set ", VAL: "validation set "}


def locate(options: DataOptions) -> Located:
    assert options.path is not None and options.list_file is not None
    files = {TRAIN: options.list_file, TEST: options.test_list_file, VAL: options.val_list_file}
    listed = {
        split: read_list(file, path_column=options.image_column, label_column=options.label_column)
        for split, file in files.items()
        if file is not None
    }
    labels = {split: _labels(images, files[split]) for split, images in listed.items()}
    numbers = {label: number for number, label in enumerate(sorted(set(labels[TRAIN])))}
    parts: dict[str, Part] = {}
    for split, images in listed.items():
        for image, label in zip(images, labels[split], strict=True):
            if label not in numbers:
                raise UserError(
                    f"{files[split]}:{image.line} has the label {image.label}, which no training image has: remove the "
                    f"line, or add training images"
                )
        names = _names(images, files[split], options.path)
        parts[split] = Part(
            options.path, [(name, numbers[label]) for name, label in zip(names, labels[split], strict=True)]
        )
    shown = [f"{_ROLES[split]}{Path(files[split] or '').name}, {part}" for split, part in parts.items()]
    return located_tree(
        options, [str(label) for label in numbers], parts, origin=f"images of lists: {'; '.join(shown)}"
    )


def read(shard: ImageShard) -> pa.RecordBatch:
    return image_trees.read(shard)


def _labels(images: Sequence[ListedImage], file: Location | None) -> list[int] | list[str]:
    """The labels as numbers if all are, else as names. Raises UserError if some are numbers, or are below 0."""
    is_number = [_NUMBER.fullmatch(image.label) is not None for image in images]
    if not any(is_number):
        return [class_name_of(image.label) for image in images]
    for image, is_one in zip(images, is_number, strict=True):
        if not is_one:
            raise UserError(
                f"{file}:{image.line} has the label {image.label!r}, others are numbers: use one of the two; "
                f"of a header, name the columns with --image_column and --label_column"
            )
        if not _CLASS_NUMBER.fullmatch(image.label):
            raise UserError(
                f"{file}:{image.line} has the label {image.label:.40}: a name, or a whole number from 0 on with at "
                f"most 18 digits, was expected"
            )
    return [int(image.label) for image in images]


def _names(images: Sequence[ListedImage], file: Location | None, directory: Location) -> list[str]:
    """Names of the images below ``directory``. Raises UserError if one is outside, or is named twice."""
    lines: dict[str, int] = {}
    for image in images:
        path = PurePosixPath(_as_on_disk(image.path.removeprefix(f"{directory}/"), directory))
        for top in (directory, directory.resolve()) if path.is_absolute() else ():
            path = path.relative_to(str(top)) if path.is_relative_to(str(top)) else path
        if path.is_absolute() or ".." in path.parts:
            raise UserError(
                f"{file}:{image.line} names {image.path}, which is outside --path {directory}: list paths below it"
            )
        if (first := lines.setdefault(str(path), image.line)) != image.line:
            raise UserError(
                f"the list {file} names an image more than once, {image.path} in the lines {first} and {image.line}: "
                f"remove the repetition"
            )
    return list(lines)


def _as_on_disk(path: str, directory: Location) -> str:
    """The path as the file system has it: Windows separates folders by backslashes, and old names are in Latin-1."""
    if path.isascii() and "\\" not in path:
        return path
    forms = [path, path.replace("\\", "/")]
    if all(ord(character) < 256 for character in path):
        forms.append(os.fsdecode(path.encode("latin-1")))
    forms += [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
    return next((form for form in forms if _exists(directory / form)), path)


def _exists(file: Location) -> bool:
    """Unlike Path.exists, False for a name that is too long."""
    return file.exists() if isinstance(file, StorePath) else os.path.exists(file)
