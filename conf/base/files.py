"""Atomic files: a reader sees the old content or the new, never a part of it.

Manifests, checkpoints, metric events, results and tables are written by these functions, so that a process may be
killed at any moment. TensorBoard logs and Spark's checkpoint of a streaming query are not: their libraries write them.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)`` beside ``path``, flush it to disk, and rename it to ``path``.

    The temporary name begins with a dot: Spark's file sources and Longtail's readers skip such files.

    Raises UserError if the disk is full, since retrying at once would not help.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror}; free some space and run the command again (the old file is intact)"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """As write_atomically, with text as content."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json_atomically(path: Path, value: Any) -> None:
    """As write_atomically, with a value that JSON can represent. Raises ValueError for NaN and infinity."""
    write_text_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits. Raises OSError as open_regular_file does."""
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular_file(path: Path) -> io.BufferedReader:
    """Open a file of the user's for reading.

    Raises OSError, also for a pipe, a socket, a device and a directory: reading from these may wait, or never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: Path) -> bytes:
    """The content of a file of the user's. Raises OSError as open_regular_file does."""
    with open_regular_file(path) as file:
        return file.read()


def read_regular_text(path: Path) -> str:
    """As read_regular_file, of UTF-8 text. Raises UnicodeDecodeError, a ValueError, for other bytes."""
    return read_regular_file(path).decode("utf-8")


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A hidden directory beside ``path`` to fill; it is renamed to ``path`` only if the block succeeds.

    With replace, it replaces an older ``path``; otherwise raises FileExistsError if another process has finished the
    same directory meanwhile. Unfinished directories of killed processes beside ``path`` are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary, lock = _locked_directory(path)
    old = _hidden_name(path)
    try:
        yield temporary
        if path.exists():
            if not replace:
                raise FileExistsError(f"{path} was created by another process meanwhile")
            os.rename(path, old)
        os.rename(temporary, path)
    finally:
        for leftover in (temporary, old):
            leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover, ignore_errors=True)
        os.close(lock)


def _hidden_name(path: Path) -> Path:
    return path.parent / f".{path.name}.{uuid.uuid4().hex}"


def _locked_directory(path: Path) -> tuple[Path, int]:
    """A hidden directory beside ``path``, and a descriptor that holds its lock until the process ends."""
    while True:
        temporary = _hidden_name(path)
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, lock
        os.close(lock)  # another process removed it before it was locked


def _sweep(parent: Path) -> None:
    """Remove the hidden directories that no running process is filling."""
    for leftover in parent.iterdir():
        if not re.fullmatch(r"\..+\.[0-9a-f]{32}", leftover.name) or not leftover.is_dir():
            continue
        try:
            lock = os.open(leftover, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:
            pass  # another process is filling it
        finally:
            os.close(lock)
