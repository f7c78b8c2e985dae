"""Where tables lie: a directory of this machine, or a URL that fsspec knows (file://, memory://, hdfs://, s3a://).

A table is a Parquet file, a directory of such files at any depth, or a Delta
table (data/delta.py). Names that begin with a dot or an underscore are passed
over, as Spark does.
"""

from pathlib import Path, PurePosixPath

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from longtail.conf.base.errors import UserError
from longtail.data.delta import delta_files, is_delta

_PARQUET_MAGIC = b"PAR1"

Place = Path | str
"""A path of this machine, or a URL."""


def place_of(text: str) -> Place:
    """What a user names: with a scheme it is a URL, else a path; file:// is the path behind it."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    return Path(rest) if scheme == "file" else text


def child(place: Place, *names: str) -> Place:
    """What lies below a directory."""
    return place.joinpath(*names) if isinstance(place, Path) else "/".join([place.rstrip("/"), *names])


def read_text(place: Place) -> str:
    """Raises FileNotFoundError or another OSError, or UserError if there is no driver for such a place."""
    if isinstance(place, Path):
        return place.read_text(encoding="utf-8")
    filesystem, path = _filesystem(place)
    return filesystem.cat_file(path).decode("utf-8")


def table_files(table: Place) -> list[Place]:
    """The Parquet files of a table, sorted by name. Raises UserError if there are none."""
    if isinstance(table, Path):
        if table.is_file():
            return [table]
        found: list[Place] = delta_files(table) if is_delta(table) else list(table.rglob("*.parquet"))
    else:
        filesystem, path = _filesystem(table)
        # As the user wrote the URL: a file system's own names lack the host.
        relative = [name.removeprefix(path).strip("/") for name in filesystem.find(path) if name.endswith(".parquet")]
        found = [child(table, name) if name else table for name in relative]
    base = str(table).rstrip("/")
    files = sorted((file for file in found if not _is_hidden(str(file).removeprefix(base))), key=str)
    if not files:
        raise UserError(f"{table} holds no Parquet file: run the job that writes it again, or name another table")
    return files


def is_table(place: Path) -> bool:
    """Whether a directory holds Parquet files or is a Delta table, or a file is a Parquet one."""
    if place.is_file():
        with place.open("rb") as file:
            return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    return is_delta(place) or any(not _is_hidden(str(file.relative_to(place))) for file in place.rglob("*.parquet"))


def open_parquet(file: Place) -> pq.ParquetFile:
    """To be closed by the caller; pages are checked against their CRC. Raises UserError that names a damaged file."""
    try:
        if isinstance(file, Path):
            return pq.ParquetFile(file, page_checksum_verification=True, memory_map=True)
        filesystem, path = _filesystem(file)
        return pq.ParquetFile(filesystem.open(path, "rb"), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, error) from None


def damaged(file: Place, error: BaseException) -> UserError:
    return UserError(f"{file} is damaged ({str(error).splitlines()[0]}): run the job that writes it again")


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(relative).parts if part != "/")


def _filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{url} cannot be reached ({error}): install the driver, or name a local path") from None
