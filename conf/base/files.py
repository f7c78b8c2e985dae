"""Atomic files: a reader sees the old content or the new, never a part of it, on the local disk and in stores.

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
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

_HIDDEN_NAME = re.compile(r"\..+\.longtail-[0-9a-f]{32}")
_BLOCK_BYTES = 1024**2
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Location, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)`` beside ``path``, flush it to disk, and rename it to ``path``.

    For a store, the temporary file is a local one, which is then uploaded whole.

    The temporary name begins with a dot: Spark's file sources and Longtail's readers skip such files. The first call in
    a directory removes the unfinished files and directories of killed processes there.

    Raises UserError if the disk is full, since retrying at once would not help.
    """
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="longtail-") as directory:
            local = Path(directory, path.name)
            write(local)
            path.upload(local)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        with _temporary(path, Path.touch) as temporary:
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


def write_text_atomically(path: Location, text: str) -> None:
    """As write_atomically, with text as content."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json_atomically(path: Location, value: Any) -> None:
    """As write_atomically, with a value that JSON can represent. Raises ValueError for NaN and infinity."""
    write_text_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def content_hash(path: Location) -> str:
    """SHA-256 of a file's content, in hexadecimal digits. Raises OSError as open_regular_file does."""
    digest = hashlib.sha256()
    with open_for_reading(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def open_for_reading(path: Location) -> IO[bytes]:
    """Open a file on the local disk, as open_regular_file does, or in a store."""
    return path.open("rb") if isinstance(path, StorePath) else open_regular_file(path)


def open_regular_file(path: Path) -> io.BufferedReader:
    """Open a file of the user's for reading.

    Raises OSError, also for a pipe, a socket, a device and a directory: reading from these may wait, or never end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a null byte
        raise OSError(errno.EINVAL, "no file has this name", str(path)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: Location) -> bytes:
    """The content of a file of the user's. Raises OSError as open_regular_file does."""
    if isinstance(path, StorePath):
        return path.read_bytes()
    with open_regular_file(path) as file:
        return file.read()


def read_regular_text(path: Location) -> str:
    """As read_regular_file, of UTF-8 text. Raises UnicodeDecodeError, a ValueError, for other bytes."""
    return read_regular_file(path).decode("utf-8")


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A hidden directory beside ``path`` to fill; it is renamed to ``path`` only if the block succeeds.

    With replace, it replaces an older ``path``. Raises FileExistsError if another process or thread has finished the
    same directory meanwhile. Unfinished files and directories of killed processes beside ``path`` are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    with _temporary(path, Path.mkdir) as temporary:
        old = _hidden_name(path)
        try:
            yield temporary
            if replace and path.exists():
                os.rename(path, old)
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                raise FileExistsError(f"{path} was created by another process meanwhile") from None
        finally:
            _remove(old)


@contextmanager
def scratch_directory(parent: Path, name: str) -> Iterator[Path]:
    """A hidden directory in ``parent``, for this user alone, that is removed after the block.

    Those of killed processes in ``parent`` are removed before.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    with _temporary(parent / name, lambda directory: directory.mkdir(mode=0o700)) as temporary:
        yield temporary


def remove_directory(path: Location) -> None:
    """Remove a directory with all that is in it. Raises OSError."""
    if isinstance(path, StorePath):
        path.remove()
    else:
        shutil.rmtree(path)


def _hidden_name(path: Path) -> Path:
    return path.parent / f".{path.name}.longtail-{uuid.uuid4().hex}"


@contextmanager
def _temporary(path: Path, create: Callable[[Path], object]) -> Iterator[Path]:
    """A new hidden file or directory beside ``path``, locked until the block or the process ends, and then removed."""
    temporary, lock = _locked(path, create)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(lock)


def _locked(path: Path, create: Callable[[Path], object]) -> tuple[Path, int]:
    """A new hidden file or directory, and the descriptor that holds its lock."""
    while True:
        temporary = _hidden_name(path)
        create(temporary)
        try:
            lock = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process removed it before it was locked
        fcntl.flock(lock, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, lock
        os.close(lock)


@cache
def _sweep_once(parent: Path) -> None:
    """Once per process, as the listing of a directory of many events takes longer than writing one."""
    _sweep(parent)


def _sweep(parent: Path) -> None:
    """Remove the hidden files and directories that no running process is filling."""
    for leftover in parent.iterdir():
        if not _HIDDEN_NAME.fullmatch(leftover.name) or leftover.is_symlink():
            continue
        try:
            lock = os.open(leftover, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:  # removed meanwhile, or another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                _remove(leftover)
        except BlockingIOError:
            pass  # another process is filling it
        finally:
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
