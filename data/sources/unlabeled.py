"""The source that --unlabeled names."""

import os
from typing import Any

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.data import DataOptions
from longtail.conf.options.unlabeled import REST, UNLABELED_NAMES
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
        return _located_files(options.unlabeled_location(), options, base)

    @staticmethod
    def read(shard: ImageShard) -> pa.RecordBatch:
        return image_trees.read(shard)


class RestOfImages:
    """--unlabeled rest: the image files below --path that no list names."""

    @staticmethod
    def locate(options: DataOptions, base: Located) -> Located:
        assert options.path is not None, "the lists name images below it"
        named = frozenset(
            os.path.normpath(f"{shard.path}/{name}")
            for shard in base.shards
            if isinstance(shard, ImageShard)
            for name in shard.names
        )
        return _located_files(options.path, options, base, without=named)

    @staticmethod
    def read(shard: ImageShard) -> pa.RecordBatch:
        return image_trees.read(shard)


def _located_files(
    directory: Location, options: DataOptions, base: Located, *, without: frozenset[str] = frozenset()
) -> Located:
    """The image files below a directory but for those in ``without``. Raises UserError if there are none."""
    if options.imb_factor_unlabel is not None:
        raise UserError(f"{directory} has images of unknown class, so --imb_factor_unlabel cannot be applied: omit it")
    if base.image_shape[2] != image_trees.CHANNELS or base.image_shape[0] != base.image_shape[1]:
        raise UserError(
            f"{directory}: images of a directory become square RGB, {options.dataset} has {base.image_shape}"
        )
    files = [file for file in files_below(directory) if os.path.normpath(str(file)) not in without]
    names = sorted(file.relative_to(str(directory)).as_posix() for file in files if is_image(file))
    if not names:
        which = "no other image than the lists name" if without else "no image of a kind that is read"
        raise UserError(f"{directory} has {which}: name a directory with --unlabeled")
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
        origin=f"{'other ' if without else ''}images of {directory.name}: {len(names)} images",
        class_names=base.class_names,
        image_shape=base.image_shape,
        encoding=base.encoding,
        unread=[str(file) for file in files if is_unread_image(file)],
    )


def has_published_order(unlabeled: str) -> bool:
    """Whether --unlabeled names images that are counted by everybody alike: svhn_extra, or a published selection."""
    if unlabeled == REST:
        return False
    return unlabeled in BY_NAME or ((place := location(unlabeled)).is_file() and not is_table(place))


def check_unlabeled_location(options: DataOptions) -> None:
    """Raise UserError if --unlabeled names a file or directory that is not there."""
    if options.unlabeled is None or options.unlabeled in UNLABELED_NAMES:
        return
    path = options.unlabeled_location()
    if is_table(path) or path.is_dir() or path.is_file():
        return
    raise UserError(
        f"--unlabeled {options.unlabeled}: there is no such file or directory (or give {' or '.join(UNLABELED_NAMES)})"
        f"{did_you_mean(options.unlabeled, UNLABELED_NAMES)}"
    )


def unlabeled_source(options: DataOptions, base: Located) -> UnlabeledSource[Any]:
    """Where the images of --unlabeled come from. Raises UserError if there are none."""
    assert options.unlabeled is not None
    check_unlabeled_location(options)
    if options.unlabeled == REST:
        return RestOfImages
    if options.unlabeled in BY_NAME:
        source = BY_NAME[options.unlabeled]
    elif is_table(options.unlabeled_location()):
        return unlabeled_table
    elif options.unlabeled_location().is_dir():
        return DirectoryOfImages
    else:
        source = tiny_images
    if base.encoding == ENCODED:
        raise UserError(
            f"--unlabeled {options.unlabeled} is no directory and no table, which alone go with --dataset "
            f"{options.dataset}: name a directory or a table of image files"
        )
    return source
