"""Directories of tables that a reader sees whole or not at all, on the local disk and in stores."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, scratch_directory
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

UNFINISHED = "_unfinished"
"""Name of the file that a directory in a store has while it is being written; readers of tables skip such names."""


@contextmanager
def new_table_directory(path: Location) -> Iterator[Location]:
    """A directory to fill, which replaces an older ``path`` if the block succeeds.

    In a store, which cannot rename a directory in one step, it is ``path`` itself, marked as unfinished meanwhile.
    """
    if not isinstance(path, StorePath):
        with new_directory(path, replace=True) as directory:
            yield directory
        return
    path.mkdir(parents=True, exist_ok=True)
    marker = path / UNFINISHED
    marker.write_bytes(b"")
    for entry in [*path.iterdir()]:
        if entry != marker:
            entry.remove()
    try:
        yield path
    except BaseException:
        path.remove()
        raise
    marker.unlink()


@contextmanager
def scratch_location(parent: Location, name: str) -> Iterator[Location]:
    """A directory in ``parent`` that is removed after the block."""
    if not isinstance(parent, StorePath):
        with scratch_directory(parent, name) as directory:
            yield directory
        return
    directory = parent / f"_{name}-{uuid.uuid4().hex}"
    try:
        yield directory
    finally:
        directory.remove()


def check_is_finished(directory: Location) -> None:
    """Raise UserError if a directory in a store is being written, or if the job that wrote it was killed."""
    if isinstance(directory, StorePath) and (directory / UNFINISHED).exists():
        raise UserError(
            f"{directory} is unfinished: wait for the job that writes it, or run that again if it was stopped"
        )


def is_finished(directory: Location) -> bool:
    """Whether a directory is there and whole."""
    return directory.is_dir() and not (isinstance(directory, StorePath) and (directory / UNFINISHED).exists())
