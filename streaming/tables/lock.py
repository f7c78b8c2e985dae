"""The lock of a directory of result tables: one process at a time writes them."""

import fcntl
from pathlib import Path
from typing import TextIO

from longtail.conf.base.errors import UserError


def lock_tables(tables_dir: Path) -> TextIO:
    """Lock the tables until the returned file is closed, or the process ends. Creates the directory if necessary.

    Raises UserError if another process is writing them.
    """
    tables_dir.mkdir(parents=True, exist_ok=True)
    lock = (tables_dir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(
            f"another process is writing the tables in {tables_dir}: read them, or choose another --output_dir"
        ) from None
    return lock
