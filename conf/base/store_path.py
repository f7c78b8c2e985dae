"""A file or directory in a store, with the methods of pathlib.Path that Longtail uses."""

# ruff: noqa: D102 - methods without a docstring are those of pathlib.Path

import fnmatch
import io
import posixpath
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import total_ordering
from pathlib import Path, PurePath
from typing import IO, Any, Literal, overload

from fsspec.spec import AbstractFileSystem
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from longtail.conf.base.errors import UserError
from longtail.conf.base.stores import file_system_of, receive, renames, settings_of


@dataclass(frozen=True)
class StoreStatus:
    """Of a file in a store.

    st_size: in bytes
    st_mtime: when it was written, in seconds since 1970-01-01 UTC; 0 if the store does not say
    version: a text that changes whenever it is written again
    """

    st_size: int
    st_mtime: float
    version: str


@total_ordering
class StorePath:
    """A file or directory in a store. Reading and writing raise OSError, and UserError if the store cannot be reached.

    scheme, authority: of the URL; path: behind them, it begins with a slash
    """

    __slots__ = ("authority", "path", "scheme")

    def __init__(self, scheme: str, authority: str, path: str) -> None:
        self.scheme = scheme
        self.authority = authority
        self.path = posixpath.normpath(f"/{path.lstrip('/')}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __lt__(self, other: "StorePath") -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # A process on another machine reaches the store with the endpoint and the credentials of this one.
        return _received, (self.scheme, self.authority, self.path, settings_of(self.scheme, self.authority))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())

    # The name: as of pathlib.PurePath.

    def __truediv__(self, name: str | PurePath) -> "StorePath":
        return self.joinpath(name)

    def joinpath(self, *names: str | PurePath) -> "StorePath":
        return StorePath(self.scheme, self.authority, posixpath.join(self.path, *map(str, names)))

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return (f"{self.scheme}://{self.authority}/", *self.path.strip("/").split("/"))

    @property
    def parent(self) -> "StorePath":
        return StorePath(self.scheme, self.authority, posixpath.dirname(self.path))

    @property
    def parents(self) -> list["StorePath"]:
        found = []
        place = self
        while place.path != "/":
            place = place.parent
            found.append(place)
        return found

    def with_name(self, name: str) -> "StorePath":
        return self.parent / name

    def with_suffix(self, suffix: str) -> "StorePath":
        return self.with_name(Path(self.name).with_suffix(suffix).name)

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> "StorePath":
        return self

    def resolve(self) -> "StorePath":
        return self

    def as_posix(self) -> str:
        return str(self)

    def as_uri(self) -> str:
        return str(self)

    def is_relative_to(self, other: object) -> bool:
        return str(other) == str(self) or str(self).startswith(f"{str(other).rstrip('/')}/")

    def relative_to(self, other: object) -> Path:
        """The names below ``other``, as a path. Raises ValueError if this is not below it."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not below {other}")
        return Path(str(self).removeprefix(str(other)).lstrip("/"))

    # The content: as of pathlib.Path.

    def exists(self) -> bool:
        with self._reached() as (files, path):
            return bool(files.exists(path))

    def is_file(self) -> bool:
        with self._reached() as (files, path):
            return bool(files.isfile(path))

    def is_dir(self) -> bool:
        with self._reached() as (files, path):
            return bool(files.isdir(path))

    def stat(self) -> StoreStatus:
        with self._reached() as (files, path):
            return _status(files.info(path))

    def iterdir(self) -> Iterator["StorePath"]:
        with self._reached() as (files, path):
            entries = files.ls(path, detail=False)
        names = (posixpath.basename(entry.rstrip("/")) for entry in entries if entry.strip("/") != path.strip("/"))
        return iter([self / name for name in names if name])

    def statuses_below(self) -> dict["StorePath", StoreStatus]:
        """The files below this directory at any depth, this one if it is a file, with their statuses."""
        with self._reached() as (files, path):
            found = files.find(path, detail=True)
        assert isinstance(found, dict)
        top = path.strip("/")
        return {
            self.joinpath(name.strip("/").removeprefix(top).lstrip("/")): _status(info) for name, info in found.items()
        }

    def files_below(self) -> list["StorePath"]:
        """The files below this directory at any depth, sorted; this one if it is a file; none if it is neither."""
        return sorted(self.statuses_below())

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """Entries of this directory whose name fits; the pattern has no slash."""
        assert "/" not in pattern, "only names of this directory"
        if not self.is_dir():
            return iter(())
        return (entry for entry in self.iterdir() if fnmatch.fnmatchcase(entry.name, pattern))

    def rglob(self, pattern: str) -> Iterator["StorePath"]:
        """Files below this directory whose name fits."""
        return (file for file in self.files_below() if fnmatch.fnmatchcase(file.name, pattern))

    @overload
    def open(
        self, mode: Literal["r", "w"] = "r", encoding: str | None = None, newline: str | None = None
    ) -> IO[str]: ...
    @overload
    def open(self, mode: Literal["rb", "wb"]) -> IO[bytes]: ...
    def open(self, mode: str = "r", encoding: str | None = None, newline: str | None = None) -> IO[Any]:
        with self._reached() as (files, path):
            binary: Any = files.open(path, f"{mode.rstrip('b')}b")
        return binary if mode.endswith("b") else io.TextIOWrapper(binary, encoding=encoding or "utf-8", newline=newline)

    def read_bytes(self) -> bytes:
        with self._reached() as (files, path):
            content = files.cat_file(path)
        assert isinstance(content, bytes)
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write a whole file: readers see the old content or the new, as with conf/base/files.py."""
        with self._written() as (files, path):
            files.pipe_file(path, content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """As write_bytes, of a text."""
        self.write_bytes(text.encode(encoding))

    def upload(self, file: Path) -> None:
        """As write_bytes, of the content of a local file."""
        with self._written() as (files, path):
            files.put_file(str(file), path)

    def download(self, file: Path) -> None:
        """Copy this file to a local one."""
        with self._reached() as (files, path):
            files.get_file(path, str(file))

    def create(self, content: bytes) -> bool:
        """Write a file unless there is one, in one step where the store can; return whether it was written."""
        with self._reached() as (files, path):
            return _create(files, path, content)

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory, and those above it. In stores of objects there are none: they come with their files."""
        if renames(self.scheme):
            with self._reached() as (files, path):
                files.makedirs(path, exist_ok=exist_ok)

    def unlink(self, *, missing_ok: bool = False) -> None:
        with self._reached() as (files, path):
            try:
                files.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove(self) -> None:
        """Remove a file or a directory with all that is in it, if there is one."""
        with self._reached() as (files, path):
            if files.exists(path):
                files.rm(path, recursive=True)

    def move(self, target: "StorePath") -> None:
        """Move this file, or directory with all that is in it, to another place in the store.

        In stores of objects, which cannot rename, file by file: a move that was interrupted goes on if it is repeated.
        """
        if renames(self.scheme):
            target.parent.mkdir(parents=True, exist_ok=True)
        with self._reached() as (files, path), target._reached() as (_, new_path):
            if renames(self.scheme):
                files.mv(path, new_path, recursive=True)
                return
            for file in sorted(files.find(path)):
                files.cp_file(file, new_path + file.removeprefix(path))
                files.rm_file(file)

    @contextmanager
    def _reached(self) -> Iterator[tuple[AbstractFileSystem, str]]:
        """The file system and the path in it; whatever its driver raises becomes an OSError or a UserError."""
        files = file_system_of(self.scheme, self.authority)
        try:
            yield files, str(files._strip_protocol(str(self)))
        except (OSError, UserError):
            raise
        except Exception as error:  # noqa: BLE001 - each driver has classes of its own
            raise UserError(
                f"{self} cannot be reached ({type(error).__name__}: {error}): check the address, the endpoint and the "
                f"credentials"
            ) from None

    @contextmanager
    def _written(self) -> Iterator[tuple[AbstractFileSystem, str]]:
        """As _reached, of a path to write to, which becomes this one's when all is written."""
        if not renames(self.scheme):
            with self._reached() as reached:
                yield reached
            return
        temporary = self.with_name(f".{self.name}.longtail-{uuid.uuid4().hex}")
        self.parent.mkdir(parents=True, exist_ok=True)
        with temporary._reached() as (files, path):
            try:
                yield files, path
                _replace(files, path, str(files._strip_protocol(str(self))))
            finally:
                with suppress(FileNotFoundError):
                    files.rm_file(path)


def _status(info: dict[str, Any]) -> StoreStatus:
    """From what a driver tells of a file, by its own names."""
    marks = (info.get(name) for name in ("ETag", "etag", "mtime", "modification_time", "LastModified", "created"))
    version = next((str(mark) for mark in marks if mark), "")
    return StoreStatus(int(info["size"] or 0), _written_at(info), version)


def _received(scheme: str, authority: str, path: str, settings: dict[str, str]) -> StorePath:
    receive(scheme, authority, settings)
    return StorePath(scheme, authority, path)


def _written_at(info: Mapping[str, Any]) -> float:
    """In seconds since 1970-01-01 UTC; each driver has a name and a unit of its own."""
    for name in ("LastModified", "modification_time", "mtime", "last_modified", "updated", "created"):
        match info.get(name):
            case datetime() as written:
                return written.timestamp()
            case int() | float() as number:
                return number / 1000 if number > 1e11 else float(number)
            case _:
                continue
    return 0.0


def _replace(files: AbstractFileSystem, temporary: str, path: str) -> None:
    """Rename a file in a store to another, which may exist."""
    if files.protocol in ("hdfs", "viewfs"):
        files.mv(temporary, path, overwrite=True)
        return
    with suppress(FileNotFoundError):
        files.rm_file(path)
    files.mv(temporary, path)


def _create(files: AbstractFileSystem, path: str, content: bytes) -> bool:
    try:
        if files.protocol in ("hdfs", "viewfs"):
            with files._open(path, "wb", overwrite=False) as file:
                file.write(content)
        else:
            files.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    return True
