"""What file systems take as a path, and whether a directory on the local disk or in a store can be written."""

import os
import uuid
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

LONGEST_NAME = 255
"""Bytes of one name in a path, on all usual file systems."""
LONGEST_PATH = 4095
"""Bytes of a path on Linux."""


def is_possible_path(path: Path) -> bool:
    """Whether a file or directory of this path may exist."""
    return len(os.fsencode(path)) <= LONGEST_PATH and all(len(os.fsencode(name)) <= LONGEST_NAME for name in path.parts)


def nearest_existing(path: Path) -> Path:
    """The path itself, or the first of the directories above it that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))


def check_can_be_written(directory: Location, *, option: str) -> None:
    """Raise UserError unless files can be written into the directory, which need not exist yet.

    A job calls it before it starts Spark, so that nobody waits for a result that cannot be kept.
    """
    if isinstance(directory, StorePath):
        _check_store_can_be_written(directory, option=option)
        return
    place = nearest_existing(directory)
    if not place.is_dir():
        raise UserError(f"{option} {directory}: {place} is a file, a directory was expected: choose another one")
    probe = place / f".{uuid.uuid4().hex}"
    try:  # permissions alone do not tell: root has them all, and /proc takes no file
        probe.touch()
        probe.unlink()
    except OSError:
        raise UserError(
            f"{option} {directory}: {place} cannot be written: choose another directory, or make it writable"
        ) from None


def check_file_can_be_written(file: Location, *, option: str) -> None:
    """As check_can_be_written, of a file to write, which may be there already."""
    if file.is_dir():
        raise UserError(f"{option} {file} is a directory, a file was expected: name a file in it")
    check_can_be_written(file.parent, option=option)


def _check_store_can_be_written(directory: StorePath, *, option: str) -> None:
    """Only writing shows it: permissions, endpoints and buckets are the store's."""
    probe = directory / f".{uuid.uuid4().hex}"
    try:
        if directory.is_file():
            raise UserError(f"{option} {directory} is a file, a directory was expected: choose another one")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{option} {directory} cannot be written ({error}): choose another location, or check the bucket and the "
            f"permissions"
        ) from None
