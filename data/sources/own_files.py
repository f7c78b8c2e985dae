"""Detect changes of the user's files after a set was prepared from them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from longtail.conf.options.data import DataOptions


def state_of_own_files(options: DataOptions) -> str | None:
    """A hash of the names, sizes and modification times of all files that the options name; None if they name none.

    Reading the files would take as long as preparing the set again.
    """
    paths = options.own_paths()
    if not paths:
        return None
    digest = hashlib.sha256()
    for path in paths:
        for file in _files(path):
            status = file.stat()
            digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """``path`` itself or all files below it, in a fixed order, without hidden files and dangling links."""
    if path.is_file():
        yield path
        return
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.exists():
                yield file
