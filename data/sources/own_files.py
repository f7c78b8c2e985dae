"""Whether the user's own files are still those that a set was prepared from."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from longtail.conf.options.data import DataOptions


def state_of_own_files(options: DataOptions) -> str | None:
    """A hash of the names, sizes and times of change of all files that the options name; None if they name none.

    Reading the files to the last byte would take as long as preparing the set again.
    """
    places = options.own_paths()
    if not places:
        return None
    digest = hashlib.sha256()
    for place in places:
        for file in _files(place):
            status = file.stat()
            digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    """All files at or below a place, in a fixed order, but for hidden ones and dangling links."""
    if place.is_file():
        yield place
        return
    for parent, folders, names in os.walk(place):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.exists():
                yield file
