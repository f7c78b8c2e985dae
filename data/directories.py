"""The files below a directory of the user's, as every reader of directories sees them.

Left out are hidden files and folders, folders in which operating systems keep their own files, dangling links, and what
is not a regular file (a named pipe, a device). Links are followed; a folder that was entered before is not entered
again, so that a link to a folder above it ends.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

_OF_THE_SYSTEM = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is the user's: not hidden, and not of the operating system."""
    return not name.startswith(".") and name not in _OF_THE_SYSTEM


def folders_in(directory: Location) -> list[Location]:
    """The visible folders in ``directory``, sorted by name; links to folders count."""
    return sorted((entry for entry in directory.iterdir() if is_visible(entry.name) and entry.is_dir()), key=_name)


def files_below(directory: Location) -> Iterator[Location]:
    """The files below ``directory`` at any depth, in a fixed order.

    Raises UserError at a folder that cannot be read: its files would be left out, and nobody would know.
    """
    if isinstance(directory, StorePath):
        below = (file.relative_to(directory) for file in directory.files_below())
        yield from (directory / name for name in below if all(map(is_visible, name.parts)))
        return
    entered = {_identity(folder) for folder in directory.absolute().parents}
    for parent, folders, names in os.walk(directory, followlinks=True, onerror=_refuse):
        if (identity := _identity(Path(parent))) in entered:
            folders.clear()
            continue
        entered.add(identity)
        folders[:] = sorted(filter(is_visible, folders))
        for name in sorted(filter(is_visible, names)):
            file = Path(parent, name)
            if file.is_file():
                yield file


def _refuse(error: OSError) -> None:
    raise UserError(
        f"cannot read the folder {error.filename}: {error.strerror or error}; make it readable, or move it elsewhere"
    ) from None


def _name(path: Location) -> str:
    return path.name


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
