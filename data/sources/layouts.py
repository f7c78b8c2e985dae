"""The layout of a directory: class folders, or split folders that contain class folders.

Folders named train, val and test are splits, in any spelling (SPLIT_FOLDERS). With all three, val/ is the validation
set; with train/ and val/ alone, val/ is the test set, as most data sets are published. --layout overrides this.
"""

import re
from dataclasses import dataclass

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.names import with_examples
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.directories import folders_in

SPLIT_FOLDERS = {
    TRAIN: ("train", "training"),
    VAL: ("val", "valid", "validation", "dev", "eval", "evaluation"),
    TEST: ("test", "testing"),
}
"""Names of the folders of each split, in lower case; `set`, `data` or `images` may follow, as in training_set."""
_AFTER_SPLIT = re.compile("[-_ .]?(set|data|images|imgs)$")
_SPLIT_WORD = re.compile("(?<![a-z])(train(ing)?|val(id|idation)?|test(ing)?)(?![a-z])")
"""In a name such as train2017 or ILSVRC2012_img_val, which may be that of a split and may be a class."""


@dataclass(frozen=True)
class FolderLayout:
    """class_folders: by split, the folder that holds the class folders; unused: folders that belong to no split"""

    class_folders: dict[str, Location]
    unused: tuple[Location, ...] = ()


def layout_of_folders(options: DataOptions) -> FolderLayout:
    """The layout of --path, as --layout says or as its folders' names do. Raises UserError if it is unclear."""
    assert options.path is not None
    path = options.path
    found, others = _split_folders(path)
    if options.layout == "classes":
        return FolderLayout({TRAIN: path})
    if options.layout != "auto":
        wanted = options.layout.split("_")
        if missing := [split for split in wanted if split not in found]:
            raise UserError(
                f"--layout {options.layout}: {path} has no folder named {missing[0]}/; it has {_listed(path)}"
            )
        unused = [found[split] for split in found if split not in wanted] + others
        return FolderLayout({split: found[split] for split in wanted}, tuple(unused))
    if TRAIN not in found:
        return _of_classes(path, found, others)
    if not folders_in(found[TRAIN]):
        raise UserError(
            f"{found[TRAIN]} has no class folders, so its images have no class: put them into a folder per class, or "
            f"give --layout classes if {found[TRAIN].name}/ is a class"
        )
    if len(found) == 1 and others:
        raise UserError(
            f"{path} has the folders {_listed(path)}: give --layout train if {found[TRAIN].name}/ holds the classes, "
            f"--layout classes if it is a class"
        )
    if VAL in found and TEST not in found:
        found = {TRAIN: found[TRAIN], TEST: found[VAL]}
    return FolderLayout(found, tuple(others))


def _of_classes(path: Location, found: dict[str, Location], others: list[Location]) -> FolderLayout:
    """The layout of a directory without train/: folders of the other splits must not be taken for classes."""
    if len(others) == 1 and not found and folders_in(others[0]):
        raise UserError(f"{path} has the folder {others[0].name}/ alone: name that with --path {others[0]}")
    for folder in found.values():
        if folders_in(folder):
            raise UserError(
                f"{path} has {folder.name}/ with folders in it, and no train/: move the training classes to "
                f"{path}/train, or give --layout classes if {folder.name}/ is a class"
            )
    words = {match[0]: folder for folder in others if (match := _SPLIT_WORD.search(folder.name.lower()))}
    if len(words) > 1 and any(word.startswith(TRAIN) for word in words) and all(map(folders_in, words.values())):
        raise UserError(
            f"{path} has the folders {with_examples(f'{folder.name}/' for folder in words.values())} with folders in "
            f"them: name them {' and '.join(words)} if they are splits, or give --layout classes if each is a class"
        )
    return FolderLayout({TRAIN: path})


def _split_folders(path: Location) -> tuple[dict[str, Location], list[Location]]:
    """The folders of splits in ``path``, and its other folders."""
    split_of = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
    found: dict[str, Location] = {}
    others = []
    for folder in folders_in(path):
        split = split_of.get(_AFTER_SPLIT.sub("", folder.name.lower()))
        if split is None:
            others.append(folder)
        elif split in found:
            raise UserError(f"{path} has {found[split].name}/ and {folder.name}/: leave one {split} folder")
        else:
            found[split] = folder
    return {split: found[split] for split in SPLIT_FOLDERS if split in found}, others


def _listed(path: Location) -> str:
    return with_examples(f"{folder.name}/" for folder in folders_in(path)) or "no folder"
