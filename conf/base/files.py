"""Atomic files: a reader sees the old content or the new, never a part of either.

Everything that longtail leaves on disk (manifests, checkpoints, metric events,
tables) goes through here, so a process may be killed at any moment.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)`` beside ``path``, flush it to disk, and rename it to ``path``.

    The temporary name starts with a dot: Spark's file sources and our own
    readers pass such files over.

    Raises UserError if there is no room for the file: to try again at once would not help.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror}; make room and give the same command again (the old file is intact)"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json_atomically(path: Path, value: Any) -> None:
    write_text_atomically(path, json.dumps(value, indent=2) + "\n")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Fill a hidden directory beside ``path``; it becomes ``path`` only if the block succeeds.

    With replace, an older ``path`` gives way to the new one. Otherwise raises FileExistsError if somebody else
    finished the same directory meanwhile. What killed processes left half full beside ``path`` is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary, lock = _locked_directory(path)
    old = _hidden_name(path)
    try:
        yield temporary
        if path.exists():
            if not replace:
                raise FileExistsError(f"{path} appeared while it was being made")
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
        os.close(lock)  # another process swept it before it was locked


def _sweep(parent: Path) -> None:
    """Remove the hidden directories that no living process fills."""
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
            pass  # somebody is filling it
        finally:
            os.close(lock)
