"""The official files of the CIFAR data sets: pickled batches in a directory, or in an archive of it.

A batch is a dict of Python 2: data (N, 3072) uint8, in which an image is 1024 red values in row-major order, then
green, then blue; and lists of labels. Archives and files are verified before they are opened or unpickled.
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_file
from longtail.conf.base.locations import Location
from longtail.data.local_copies import local_copy
from longtail.data.sources.download import verify_md5, verify_sha256
from longtail.data.unpickle import arrays_of

IMAGE_SHAPE = (32, 32, 3)

# Exceptions for a damaged archive, image or index. tarfile asks for as much memory as a header announces.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tarfile.TarError,
    zlib.error,
)
_MAX_MEMBER_BYTES = 2**28
"""The largest file, CIFAR-100's training images, has 155 MB."""


def read_file(path: Location, *, directory: str, name: str, archive_sha256: str, md5: str) -> bytes:
    """The file ``name`` in the directory ``path``, or in ``directory`` of the archive ``path``.

    archive_sha256, md5: of the published archive, and of the file

    Raises UserError if the archive or the file is another one, or cannot be read.
    """
    try:
        if path.is_dir():
            content = read_regular_file(path / name)
        else:
            verify_sha256(local_copy(path), archive_sha256)
            content = member_content(local_copy(path), f"{directory}/{name}")
    except DAMAGE as error:
        raise unreadable(path, error) from None
    verify_md5(content, md5, path=path, name=name)
    return content


def member_content(path: Path, name: str) -> bytes:
    """A regular file in an archive; links are not followed. May raise DAMAGE."""
    with tarfile.open(path) as archive:
        member = archive.getmember(name)
        if not member.isreg() or member.size > _MAX_MEMBER_BYTES:
            raise ValueError(f"{name} is not a file of at most {_MAX_MEMBER_BYTES} bytes")
        file = archive.extractfile(member)
        assert file is not None  # of a regular file
        return file.read()


def images_and_labels(content: bytes, *, label_key: str, path: Location) -> tuple[np.ndarray, np.ndarray]:
    """A batch's images (N, 32, 32, 3) uint8 and labels (N,) int64. Raises UserError with the path."""
    batch = arrays_of(content, ["data", label_key], path=path)
    data, labels = batch["data"], batch[label_key]
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path} cannot be read: it has data of {data.dtype} {data.shape} and labels of {labels.dtype}, uint8 "
            f"(N, 3072) and integers were expected; delete it and run again"
        )
    pixels = data.reshape(-1, 3, 32, 32)  # (N, C, H, W)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels.astype(np.int64)


def unreadable(path: Location, error: BaseException) -> UserError:
    """The error to raise for a file that cannot be read."""
    reason = " ".join(str(error).split())
    return UserError(f"{path} cannot be read ({reason}): delete it and run again")
