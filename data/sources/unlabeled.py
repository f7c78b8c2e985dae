"""The source that --unlabeled names."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.conf.vocabulary import NO_CLASS, UNLABELED
from longtail.data.contract import ENCODED, UNLABELED_FIRST_ID
from longtail.data.directories import files_below
from longtail.data.sources import image_trees, svhn_extra, tiny_images, unlabeled_table
from longtail.data.sources.base import Located, UnlabeledSource
from longtail.data.sources.folder import is_image, is_unread_image
from longtail.data.sources.image_trees import ImageShard, shards_of
from longtail.data.storage import is_table

BY_NAME: dict[str, UnlabeledSource[Any]] = {"svhn_extra": svhn_extra}


class DirectoryOfImages:
    """Image files below a directory, without labels."""

    @staticmethod
    def locate(options: DataOptions, base: Located) -> Located:
        directory = Path(options.unlabeled or "").absolute()
        if options.imb_factor_unlabel is not None:
            raise UserError(
                f"{directory} has images of unknown class, so --imb_factor_unlabel cannot shape them: leave it out"
            )
        if base.image_shape[2] != image_trees.CHANNELS or base.image_shape[0] != base.image_shape[1]:
            raise UserError(
                f"{directory}: images of a directory become square RGB, {options.dataset} has {base.image_shape}"
            )
        files = list(files_below(directory))
        names = sorted(file.relative_to(directory).as_posix() for file in files if is_image(file))
        if not names:
            raise UserError(f"{directory} has no image of a kind that is read: name a directory with --unlabeled")
        shards = shards_of(
            directory,
            [(name, NO_CLASS) for name in names],
            UNLABELED,
            first_id=UNLABELED_FIRST_ID,
            skip_bad=options.on_bad_image == "skip",
            encoding=base.encoding,
            size=base.image_shape[0],
        )
        return Located(
            shards=shards,
            origin=f"images of {directory.name}: {len(names)} images",
            class_names=base.class_names,
            image_shape=base.image_shape,
            encoding=base.encoding,
            unread=[str(file) for file in files if is_unread_image(file)],
        )

    @staticmethod
    def read(shard: ImageShard) -> pa.RecordBatch:
        return image_trees.read(shard)


def has_published_order(unlabeled: str) -> bool:
    """Whether --unlabeled names images that are counted by everybody alike: svhn_extra, or a published selection."""
    return unlabeled in BY_NAME or (Path(unlabeled).is_file() and not is_table(Path(unlabeled)))


def unlabeled_source(options: DataOptions, base: Located) -> UnlabeledSource[Any]:
    """Where the images of --unlabeled come from. Raises UserError if there are none."""
    assert options.unlabeled is not None
    if options.unlabeled in BY_NAME:
        source = BY_NAME[options.unlabeled]
    elif is_table(Path(options.unlabeled)):
        return unlabeled_table
    elif Path(options.unlabeled).is_dir():
        return DirectoryOfImages
    elif Path(options.unlabeled).is_file():
        source = tiny_images
    else:
        raise UserError(
            f"--unlabeled {options.unlabeled} is not a file, a directory or one of {', '.join(BY_NAME)}: name one"
        )
    if base.encoding == ENCODED:
        raise UserError(
            f"--unlabeled {options.unlabeled} has raw pixels, {options.dataset} has files: name a directory or a table "
            f"of files"
        )
    return source
