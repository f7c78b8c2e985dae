"""What file systems take as a path, and whether a directory can be written."""

import os
from pathlib import Path

from longtail.conf.base.errors import UserError

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


def check_can_be_written(directory: Path, *, option: str) -> None:
    """Raise UserError unless files can be written into the directory, which need not exist yet.

    A job calls it before it starts Spark, so that nobody waits for a result that cannot be kept.
    """
    place = nearest_existing(directory)
    if not place.is_dir():
        raise UserError(f"{option} {directory}: {place} is a file, a directory was expected: choose another one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {directory}: {place} cannot be written: choose another directory, or make it writable"
        )
