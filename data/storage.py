"""Tables in a local directory or at a URL that fsspec knows (file://, memory://, hdfs://, s3a://).

A table is a Parquet file, a directory of such files at any depth, or a Delta table (data/delta.py). Names that begin
with a dot or an underscore are skipped, as Spark does.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar, overload

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_regular_file, read_regular_text
from longtail.data.delta import delta_files, is_delta

_PARQUET_MAGIC = b"PAR1"

PathOrUrl = Path | str
"""A local path, or a URL."""

_File = TypeVar("_File", Path, str)


def path_or_url(text: str) -> PathOrUrl:
    """The location that a user names: a URL if it has a scheme, else a path; file:// becomes a path."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    return Path(rest) if scheme == "file" else text


def child(directory: PathOrUrl, *names: str) -> PathOrUrl:
    """The location of a file or directory below ``directory``."""
    if isinstance(directory, Path):
        return directory.joinpath(*names)
    return "/".join([directory.rstrip("/"), *names])


def read_text(file: PathOrUrl) -> str:
    """Raises FileNotFoundError or another OSError, and UserError if the URL's driver is missing."""
    if isinstance(file, Path):
        return read_regular_text(file)
    filesystem, path = _filesystem(file)
    text = filesystem.read_text(path, encoding="utf-8")
    assert isinstance(text, str)
    return text


@overload
def table_files(table: Path) -> list[Path]: ...
@overload
def table_files(table: str) -> list[str]: ...
def table_files(table: PathOrUrl) -> Sequence[PathOrUrl]:
    """The Parquet files of a table, sorted by name. Raises UserError if there are none."""
    files = _local_files(table) if isinstance(table, Path) else _remote_files(table)
    if not files:
        raise UserError(f"{table} has no Parquet file: run the job that writes it again, or name another table")
    return files


def is_table(path: Path) -> bool:
    """Whether ``path`` is a Parquet file, a Delta table or a directory with Parquet files."""
    if path.is_file():
        with path.open("rb") as file:
            return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    return is_delta(path) or any(not _is_hidden(str(file.relative_to(path))) for file in path.rglob("*.parquet"))


def open_parquet(file: PathOrUrl) -> pq.ParquetFile:
    """Open a file, which the caller closes; each page is checked against its CRC. Raises UserError if it is damaged."""
    try:
        if isinstance(file, Path):
            open_regular_file(file).close()
            parquet = pq.ParquetFile(file, page_checksum_verification=True, memory_map=True)
        else:
            filesystem, path = _filesystem(file)
            parquet = pq.ParquetFile(filesystem.open(path, "rb"), page_checksum_verification=True)
        _ = parquet.schema_arrow.names  # raises if one is no text
        return parquet
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise damaged(file, error) from None


def check_columns(parquet: pq.ParquetFile, columns: Iterable[str], *, file: PathOrUrl) -> None:
    """Raise UserError if an open file lacks a column, or if the names of its columns are damaged."""
    try:
        names = parquet.schema_arrow.names
    except UnicodeDecodeError as error:
        raise damaged(file, error) from None
    if missing := sorted(set(columns) - set(names)):
        raise UserError(f"{file} has no column {', '.join(missing)}: run the job that writes it again")


def damaged(file: PathOrUrl, error: BaseException) -> UserError:
    """The error to raise for a file that cannot be read."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{file} is damaged ({reason}): run the job that writes it again")


def _local_files(table: Path) -> list[Path]:
    if table.is_file():
        return [table]
    return _visible(table, delta_files(table) if is_delta(table) else table.rglob("*.parquet"))


def _remote_files(table: str) -> list[str]:
    filesystem, path = _filesystem(table)
    # As the user wrote the URL: the names of a file system lack the host.
    relative = [name.removeprefix(path).strip("/") for name in filesystem.find(path) if name.endswith(".parquet")]
    return _visible(table, [f"{table.rstrip('/')}/{name}" if name else table for name in relative])


def _visible(table: PathOrUrl, files: Iterable[_File]) -> list[_File]:
    base = str(table).rstrip("/")
    return sorted((file for file in files if not _is_hidden(str(file).removeprefix(base))), key=str)


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(relative).parts if part != "/")


def _filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{url} cannot be reached ({error}): install the driver, or name a local path") from None
