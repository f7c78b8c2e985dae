"""The official files of the CIFAR data sets: pickled batches in a directory, or in an archive of it.

A batch is a dict of Python 2: data (N, 3072) uint8, in which an image is 1024 red values in row-major order, then
green, then blue; and lists of labels.
"""

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.data.unpickle import load_arrays

IMAGE_SHAPE = (32, 32, 3)

# Exceptions for a damaged archive, image or index, and (the last two) for a pickle of another content.
DAMAGE = (
    OSError, EOFError, KeyError, ValueError, SyntaxError, tarfile.TarError, zlib.error, TypeError, AttributeError,
)  # fmt: skip


def read_file(path: Path, *, directory: str, name: str) -> bytes:
    """The file ``name`` in the directory ``path``, or in ``directory`` of the archive ``path``. May raise DAMAGE."""
    if path.is_dir():
        return (path / name).read_bytes()
    with tarfile.open(path) as archive:
        content = archive.extractfile(f"{directory}/{name}")
        if content is None:
            raise ValueError(f"{directory}/{name} is not a file")
        return content.read()


def images_and_labels(content: bytes, *, label_key: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A batch's images (N, 32, 32, 3) uint8 and labels (N,) int64. May raise DAMAGE, or UserError with the path."""
    batch = load_arrays(io.BytesIO(content), path=path)
    pixels = batch[b"data"].reshape(-1, 3, 32, 32)  # (N, C, H, W)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), np.asarray(batch[label_key], np.int64)


def unreadable(path: Path, error: BaseException) -> UserError:
    """The error to raise for a file that cannot be read."""
    reason = " ".join(str(error).split())
    return UserError(f"{path} cannot be read ({reason}): delete it and run again")
