"""Archives of CIFAR, as if they had the published hash."""

import io
import tarfile
from pathlib import Path
from random import Random

from longtail.data.sources.cifar_files import DAMAGE, member_content, unreadable
from tests.fuzz.mutation import NUMBERS, damaged

NAME = "cifar-10-batches-py/test_batch"
_TYPES = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
          tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE]  # fmt: skip
_NAMES = [NAME, NAME, "../outside", "/etc/passwd", "x" * 300, "é\ud800", ""]


def _archive(random: Random) -> bytes:
    file = io.BytesIO()
    format_ = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        for _ in range(random.randrange(1, 5)):
            member = tarfile.TarInfo(
                random.choice(_NAMES).encode(errors="replace").decode()[: random.choice((99, 400))]
            )
            content = random.randbytes(random.choice((0, 1, 600)))
            member.size = len(content)
            member.type = random.choice(_TYPES) if random.random() < 0.3 else tarfile.REGTYPE
            member.linkname = random.choice(_NAMES[:4]) if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            if format_ == tarfile.PAX_FORMAT and random.random() < 0.3:
                member.pax_headers = {
                    random.choice(("size", "path", "GNU.sparse.size", "mtime")): str(random.choice(NUMBERS))
                }
            try:
                archive.addfile(member, io.BytesIO(content))
            except ValueError:  # a name too long for the format
                continue
    return file.getvalue()


def generate(random: Random) -> bytes:
    content = _archive(random)
    return damaged(content, random, tokens=[NAME.encode(), b"77777777777", b"\x80" + b"\xff" * 11, content[:512]])


def read(content: bytes, directory: Path) -> None:
    file = directory / "archive.tar"
    file.write_bytes(content)
    try:
        member_content(file, NAME)
    except DAMAGE as error:  # as read_file does
        raise unreadable(file, error) from None
