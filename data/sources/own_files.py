"""Detect changes of the user's files after a set was prepared from them."""

import hashlib

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
        for file in [path] if path.is_file() else files_below(path):
            status = file.stat()
            digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
