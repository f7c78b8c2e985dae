"""A directory of class folders: DIR/CLASS/**/*.jpg, or DIR/train/CLASS/... and DIR/test/CLASS/...

Tiny ImageNet's layout is read too: train/CLASS/images/, and as test set val/images/ with the class of each file in
val/val_annotations.txt (its test images have no labels). Classes are numbered in the order of their names. Hidden
files, and files whose names are not those of a JPEG or PNG file, are skipped.
"""

import os
from pathlib import Path

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN
from longtail.data.image_files import SUFFIXES
from longtail.data.sources import image_trees
from longtail.data.sources.base import Located
from longtail.data.sources.image_trees import ImageShard, located_tree


def locate(options: DataOptions) -> Located:
    assert options.path is not None
    train_dir, test_dir = options.path / TRAIN, options.path / TEST
    annotations = options.path / "val" / "val_annotations.txt"
    if train_dir.is_dir() and annotations.is_file():
        class_names = _class_names(train_dir)
        train = _images(train_dir, options.path, class_names)
        test = _annotated_images(annotations, options.path, class_names)
        return located_tree(options, class_names, train, test, origin=f"Tiny ImageNet's layout in {options.path.name}")
    if not (train_dir.is_dir() and test_dir.is_dir()):
        class_names = _class_names(options.path)
        train = _images(options.path, options.path, class_names)
        return located_tree(options, class_names, train, [], origin=f"class folders of {options.path.name}")
    class_names = _class_names(train_dir)
    if unknown := sorted(set(_class_names(test_dir)) - set(class_names)):
        raise UserError(f"{test_dir} has the class {unknown[0]!r}, which is not in {train_dir}: remove it or add it")
    train = _images(train_dir, options.path, class_names)
    test = _images(test_dir, options.path, class_names)
    if not test:
        raise UserError(f"{test_dir} has no image: add some, or remove it, to use a share of the training images")
    return located_tree(options, class_names, train, test, origin=f"class folders of {options.path.name}, own test set")


def read(shard: ImageShard) -> pa.RecordBatch:
    return image_trees.read(shard)


def image_names(directory: Path, relative_to: Path) -> list[str]:
    """Names of the images below a directory, sorted."""
    names = []
    for parent, folders, files in os.walk(directory):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        names += [
            (Path(parent) / file).relative_to(relative_to).as_posix()
            for file in files
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES
        ]
    return sorted(names)


def _class_names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _annotated_images(file: Path, relative_to: Path, class_names: list[str]) -> list[tuple[str, int]]:
    """The images of val/images; a line of ``file`` has name, class and further fields, separated by tabs."""
    labels = {name: label for label, name in enumerate(class_names)}
    images = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        class_name = rest.partition("\t")[0]
        if class_name not in labels or Path(name).name != name:
            raise UserError(f"{file}:{number} is {line!r}: the name of an image, a tab and a class were expected")
        images.append(((file.parent / "images" / name).relative_to(relative_to).as_posix(), labels[class_name]))
    if not images:
        raise UserError(f"{file} names no image: get it again")
    return images


def _images(directory: Path, relative_to: Path, class_names: list[str]) -> list[tuple[str, int]]:
    return [
        (name, label)
        for label, class_name in enumerate(class_names)
        for name in image_names(directory / class_name, relative_to)
    ]
