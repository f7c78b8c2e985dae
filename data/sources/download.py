"""Atomic downloads, and the check that a file is the published one before anything reads what is in it.

The hashes are published with other programs that read the same data sets: SHA-256 by Keras (CIFAR) and TensorFlow
Datasets (MNIST, SVHN), MD5 by torchvision where there is no SHA-256 (the single files of the CIFAR archives).
"""

import hashlib
import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, write_atomically
from longtail.conf.base.locations import Location

CONNECT_TIMEOUT_SECONDS = 10


def verify_md5(content: bytes, expected: str, *, path: Location, name: str) -> None:
    """Raise UserError unless ``content``, of the file ``name`` in ``path``, is that of the published file."""
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if got != expected:
        raise UserError(
            f"{path}: {name} has MD5 {got}, the official one has {expected}: the file is damaged or a different one; "
            f"delete it and run again"
        )


def verify_sha256(path: Location, expected: str) -> None:
    """Raise UserError unless the file at ``path`` can be read and is the published one."""
    try:
        got = content_hash(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): delete it and run again") from None
    if got != expected:
        raise UserError(f"{path} is not the official file: SHA-256 {got}, expected {expected}; delete it and run again")


def download(url: str, path: Location) -> None:
    """Download ``url`` to ``path``. Raises UserError (a clause without a remedy) if that fails."""

    def write(temporary: Path) -> None:
        # The URLs are constants of the sources.
        reply = urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_SECONDS)  # noqa: S310
        with reply as response, temporary.open("wb") as file:
            shutil.copyfileobj(response, file)
            announced = response.headers.get("Content-Length")
            # http.client treats an interrupted connection as the end of the file.
            if announced is not None and file.tell() != int(announced):
                raise OSError(f"it ended after {file.tell()} of {announced} bytes")

    try:
        write_atomically(path, write)
    except (OSError, HTTPException) as error:  # urllib's errors and time-outs are OSErrors
        raise UserError(f"{url} cannot be downloaded ({str(getattr(error, 'reason', error)).strip()})") from None
