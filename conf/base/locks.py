"""Locks on files of the local disk, which end with the process that holds them, however it ends."""

import fcntl
from pathlib import Path
from typing import TextIO

from longtail.conf.base.errors import UserError


def lock_file(file: Path, refusal: str) -> TextIO:
    """Lock a file until the returned one is closed, or the process ends. Creates it and its directory if necessary.

    Raises UserError with the refusal if another process has locked it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(refusal) from None
    return lock
