"""Detect changes of the user's files after a set was prepared from them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.conf.options.data import DataOptions
from longtail.data.directories import files_below


def state_of_own_files(options: DataOptions) -> str | None:
    """A hash of the names, sizes and modification times of all files that the options name; None if they name none.

    Reading the files would take as long as preparing the set again.
    """
    paths = options.own_paths()
    if not paths:
        return None
    digest = hashlib.sha256()
    for path in paths:
        for file, size, version in _in_store(path) if isinstance(path, StorePath) else _on_disk(path):
            digest.update(f"{file}\0{size}\0{version}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _on_disk(path: Path) -> Iterator[tuple[Location, int, int]]:
    """File, size and modification time of each file."""
    for file in [path] if path.is_file() else files_below(path):
        status = file.stat()
        assert isinstance(status, os.stat_result)
        yield file, status.st_size, status.st_mtime_ns


def _in_store(path: StorePath) -> Iterator[tuple[Location, int, str]]:
    """File, size and version of each file; one listing has them all."""
    statuses = path.statuses_below()
    for file in [path] if path in statuses else files_below(path):
        assert isinstance(file, StorePath)
        yield file, statuses[file].st_size, statuses[file].version
