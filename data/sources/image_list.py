"""Images named by a list, one line per image: path below --path, and label. ImageNet-LT and iNaturalist 2018 have such
lists.

Classes have numbers as names, from 0 to the largest label of the training list.
"""

from pathlib import Path, PurePosixPath

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.sources import image_trees
from longtail.data.sources.base import Located
from longtail.data.sources.image_trees import ImageShard, Part, located_tree


def locate(options: DataOptions) -> Located:
    assert options.list_file is not None
    train = read_list(options.list_file)
    num_classes = 1 + max(label for _, label in train)
    assert options.path is not None
    parts = {TRAIN: Part(options.path, train)}
    for split, file in ((TEST, options.test_list_file), (VAL, options.val_list_file)):
        if file is not None:
            parts[split] = Part(options.path, read_list(file, num_classes=num_classes))
    names = [str(label) for label in range(num_classes)]
    return located_tree(options, names, parts, origin=f"images of the list {options.list_file.name}")


def read(shard: ImageShard) -> pa.RecordBatch:
    return image_trees.read(shard)


def read_list(file: Path, *, num_classes: int | None = None) -> list[tuple[str, int]]:
    """Path and label of each line. Raises UserError with the line's number if it has another form."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {file}: {error}") from None
    images = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isascii() or not label.isdigit():
            raise UserError(f"{file}:{number} is {line.strip()!r}: a path, a space and a label from 0 on were expected")
        if num_classes is not None and int(label) >= num_classes:
            raise UserError(
                f"{file}:{number} has the label {label}, the training list has the classes 0..{num_classes - 1}"
            )
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{file}:{number} names {name}, which is outside --path: list paths below it")
        images.append((name, int(label)))
    if not images:
        raise UserError(f"the list {file} names no image")
    if len(set(images)) < len(images) or len({name for name, _ in images}) < len(images):
        raise UserError(f"the list {file} names an image more than once: remove the repetition")
    return images
