"""The message about a full disk, which Python, Arrow, Delta and Spark's JVM report each in its own way."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtail.conf.base.errors import UserError

_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


@contextmanager
def named_if_full(directory: Path) -> Iterator[None]:
    """Raise UserError, with the directory, for an error of the block that says that the disk is full."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = f"{error}\n{getattr(error, '_stackTrace', '')}"  # the JVM's causes
        if "UserError: " not in text and any(full in text for full in _FULL):
            raise UserError(
                f"the disk of {directory} is full: free some space, and run the same command again to resume"
            ) from error
        raise
