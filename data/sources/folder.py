"""A directory of class folders, DIR/CLASS/**/*.jpg, or of splits with class folders (data/sources/layouts.py).

Classes are numbered in the order of their names. --val_path and --test_path name class folders elsewhere. Tiny
ImageNet's layout is read too: train/CLASS/images/, and val/ with annotations as test set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import class_name_of, with_examples
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.directories import files_below, folders_in, is_visible
from longtail.data.image_files import SUFFIXES, UNREAD_SUFFIXES
from longtail.data.sources import image_trees
from longtail.data.sources.base import Located
from longtail.data.sources.image_trees import ImageShard, Part, located_tree
from longtail.data.sources.layouts import FolderLayout, layout_of_folders
from longtail.data.sources.tiny_imagenet import ANNOTATIONS, annotated_images

_ROLES = {TRAIN: "", VAL: "taken as validation set, ", TEST: "taken as test set, "}


def locate(options: DataOptions) -> Located:
    assert options.path is not None
    train_dir = options.path / TRAIN
    if options.layout == "auto" and train_dir.is_dir() and (options.path / ANNOTATIONS).is_file():
        class_names = sorted(_class_folders(train_dir))
        annotated = Part(options.path, annotated_images(options.path, class_names))
        parts = {TRAIN: _part(train_dir, options.path, class_names), TEST: annotated}
        origin = f"Tiny ImageNet's layout of {options.path.name}: train/ {parts[TRAIN]}; val/ as test set, {annotated}"
        return located_tree(options, class_names, parts, origin=origin)
    layout = layout_of_folders(options)
    folders = dict(layout.class_folders)
    folders |= {split: path for split, path in ((VAL, options.val_path), (TEST, options.test_path)) if path is not None}
    class_names = sorted(_class_folders(folders[TRAIN]))
    for folder in folders.values():
        if unknown := sorted(_class_folders(folder).keys() - set(class_names)):
            raise UserError(
                f"{folder} has the class {unknown[0]!r}, which is not in {folders[TRAIN]}: remove it or add it"
            )
    parts = {split: _part(folder, options.path, class_names) for split, folder in folders.items()}
    for split, part in parts.items():
        if split != TRAIN and not part.images:
            raise UserError(
                f"{folders[split]} has no image: add some, or remove it, to use a share of the training images"
            )
    return located_tree(options, class_names, parts, origin=_origin(options.path, layout, folders, parts))


def read(shard: ImageShard) -> pa.RecordBatch:
    return image_trees.read(shard)


def is_image(name: str | Location) -> bool:
    """Whether a file's name is that of an image of a kind that is read."""
    return Path(str(name)).suffix.lower() in SUFFIXES


def is_unread_image(name: str | Location) -> bool:
    """Whether a file's name is that of an image of another kind."""
    return Path(str(name)).suffix.lower() in UNREAD_SUFFIXES


def _class_folders(directory: Location) -> dict[str, Location]:
    """Class folders by class name. Raises UserError if two are of the same."""
    folders: dict[str, Location] = {}
    for folder in folders_in(directory):
        name = class_name_of(folder.name)
        if name in folders:
            raise UserError(
                f"{directory} has two folders of the class {name!r}, which differ in Unicode forms or white space: "
                f"merge them"
            )
        folders[name] = folder
    return folders


def _part(directory: Location, path: Location, class_names: Sequence[str]) -> Part:
    """The images of the class folders in ``directory``; their names are relative to ``path`` if it is above."""
    folders = _class_folders(directory)
    base = path if directory.is_relative_to(str(path)) else directory
    images: list[tuple[str, int]] = []
    unread: list[str] = []
    others = 0
    for label, class_name in enumerate(class_names):
        files = list(files_below(folders[class_name])) if class_name in folders else []
        names = sorted(file.relative_to(str(base)).as_posix() for file in files if is_image(file))
        images += [(name, label) for name in names]
        unread += [str(file) for file in files if is_unread_image(file)]
        others += sum(not is_image(file) and not is_unread_image(file) for file in files)
    loose = sorted(entry.name for entry in directory.iterdir() if is_visible(entry.name) and is_image(entry.name))
    remarks = []
    if loose:
        remarks.append(f"not used: {len(loose)} images outside the class folders ({with_examples(loose)})")
    if others:
        remarks.append(f"not used: {others} files in {directory.name}/ that are no images")
    return Part(base, images, tuple(unread), tuple(remarks))


def _origin(path: Location, layout: FolderLayout, folders: Mapping[str, Location], parts: Mapping[str, Part]) -> str:
    """What the directory was taken for, in words."""
    shown = [
        str(parts[split]) if folder == path else f"{folder.name}/ {_ROLES[split]}{parts[split]}"
        for split, folder in folders.items()
    ]
    if layout.unused:
        shown.append(f"not used: {with_examples(folder.name + '/' for folder in layout.unused)}")
    shown += [remark for part in parts.values() for remark in part.remarks]
    return f"class folders of {path.name}: {'; '.join(shown)}"
