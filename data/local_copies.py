"""Local copies of files in a store, for libraries that read local files alone."""

import hashlib
import os
import tempfile
from pathlib import Path

from longtail.conf.base.files import write_atomically
from longtail.conf.base.locations import Location


def local_copy(file: Location) -> Path:
    """The file itself if it is on the local disk, or a copy of it; the tasks on a machine share one copy.

    Copies are in the directory for temporary files (TMPDIR), under a name that changes with the file. Raises OSError.
    """
    if isinstance(file, Path):
        return file
    status = file.stat()
    key = hashlib.sha256(f"{file}\0{status.st_size}\0{status.version}".encode()).hexdigest()[:32]
    copy = Path(tempfile.gettempdir(), f"longtail-copies-{os.getuid()}", key, file.name)
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(copy, file.download)
    return copy
