"""Brings an exported run (streaming/runs/exporting.py) into a runs directory. Exports may come from anybody."""

import json
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pyarrow as pa

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, scratch_directory
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import run_of_event_file
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.runs.descriptions import description_file
from longtail.streaming.runs.exporting import EXPORT_FILE, EXPORT_FORMAT_VERSION, TABLES_IN_EXPORT
from longtail.streaming.runs.own_directories import is_own_directory
from longtail.streaming.runs.trash import forget_purged, things_of, trash_entries

_PARTS = frozenset({EXPORT_FILE, "description.json", "run", EVENTS_DIRECTORY, TABLES_IN_EXPORT})


_DAMAGED_ZIP = (
    OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, IndexError, struct.error, zlib.error, LZMAError,
)  # fmt: skip
"""What reading a damaged zip file raises."""


def import_run(runs_dir: Location, source: Path, *, dry_run: bool = False) -> str:
    """Import a run from the directory or zip file of an export; its name.

    Raises UserError if it is no export, leads out of its directory, has events of another run, or if the run exists.
    """
    with _unpacked(runs_dir, source) as directory:
        run = _checked(directory, source)
        if taken := next(iter(things_of(runs_dir, run).values()), None):
            raise UserError(f"{taken} exists: delete the run {run} of {runs_dir} first, or choose another --runs_dir")
        if any(entry.run == run and entry.is_kept for entry in trash_entries(runs_dir)):
            raise UserError(
                f"the trash of {runs_dir} has a run {run}: restore it, or `longtail runs delete {run} --purge` first"
            )
        if not dry_run:
            forget_purged(runs_dir, run)
            _move_in(directory, runs_dir, run)
    return run


@contextmanager
def _unpacked(runs_dir: Location, source: Path) -> Iterator[Path]:
    """A copy of an export inside the runs directory, or on the local disk if that is in a store, that is removed after
    the block."""
    with ExitStack() as held:
        if isinstance(runs_dir, Path):
            directory = held.enter_context(scratch_directory(runs_dir, "import"))
        else:
            directory = Path(held.enter_context(TemporaryDirectory(prefix="longtail-import-")))
        try:
            if source.is_dir():
                _check_names(source, _tree(source))
                for part in _PARTS & set(os.listdir(source)):
                    copy = shutil.copytree if (source / part).is_dir() else shutil.copyfile
                    copy(source / part, directory / part)
            else:
                _unzip(source, directory)
        except _DAMAGED_ZIP as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot import {source} ({reason}): give what `longtail runs export` wrote") from None
        yield directory


def _unzip(source: Path, directory: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _check_names(source, {member.filename: stat.S_IFMT(member.external_attr >> 16) for member in members})
        if (needed := sum(member.file_size for member in members)) > (free := shutil.disk_usage(directory).free):
            raise UserError(f"{source} needs {needed:,} bytes, and {directory.parent} has {free:,}: make room there")
        for member in members:
            (directory / member.filename).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as content, (directory / member.filename).open("wb") as file:
                shutil.copyfileobj(content, file)


def _tree(source: Path) -> dict[str, int]:
    """The types of all files and links of a directory, by path."""
    found = {}
    for parent, directories, names in os.walk(source):
        for path in (Path(parent) / name for name in [*names, *directories]):
            if path.is_symlink() or not path.is_dir():
                found[path.relative_to(source).as_posix()] = stat.S_IFMT(path.lstat().st_mode)
    return found


def _check_names(source: Path, types: dict[str, int]) -> None:
    """types: of the files, as in st_mode, by path; 0 for one that does not say"""
    for name, kind in types.items():
        path = PurePosixPath(name)
        leads_out = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
        if leads_out or not path.parts or path.parts[0] not in _PARTS:
            raise UserError(f"{source} has the file {name!r}, which is no part of an exported run: it is not imported")
        if kind not in (0, stat.S_IFREG):
            raise UserError(f"{source}: {name!r} is a link or a special file: it is not imported")


def _checked(directory: Path, source: Path) -> str:
    """The name of the run of an export."""
    try:
        content = json.loads(read_regular_text(directory / EXPORT_FILE))
        version, run = content["format_version"], content["run"]
        if not isinstance(run, str) or not RUN_NAME.fullmatch(run) or is_own_directory(run):
            raise ValueError(f"{run!r:.200} is not a valid name of a run")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{source} has no {EXPORT_FILE} of a run ({error}): give what export wrote") from None
    check_format_version(version, newest=EXPORT_FORMAT_VERSION, file=source, remedy="export the run again")
    events = directory / EVENTS_DIRECTORY
    for name in _event_names(events):
        if run_of_event_file(name) != run:
            raise UserError(f"{source} has the event file {name!r}, which is none of {run}: it is not imported")
        if other := _other_run(events, name, run):
            raise UserError(f"{source}: {name} has an event of the run {other!r}: it is not imported")
    return run


def _event_names(events: Path) -> list[str]:
    return sorted(file.relative_to(events).as_posix() for file in events.rglob("*") if not file.is_dir())


def _other_run(events: Path, name: str, run: str) -> str | None:
    """Another run that a file has an event of. Lines that are no events are for the quarantine."""
    for piece in read_event_files(events, [name]):
        for named in {name for table in piece.events.values() for name in table["run"].unique().to_pylist()}:
            if named != run:
                return named
        for line in piece.lines["value"].cast(pa.binary()).to_pylist():
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                if (named := json.loads(line)["run"]) != run:
                    return str(named)
    return None


def _move_in(directory: Path, runs_dir: Location, run: str) -> None:
    if not isinstance(runs_dir, Path):
        _upload(directory, runs_dir, run)
        return
    if (directory / "description.json").is_file():
        target = description_file(runs_dir, run)
        target.parent.mkdir(exist_ok=True)
        os.replace(directory / "description.json", target)
    if (directory / "run").is_dir():
        os.replace(directory / "run", runs_dir / run)
    for name in _event_names(directory / EVENTS_DIRECTORY):
        target = runs_dir / EVENTS_DIRECTORY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(directory / EVENTS_DIRECTORY / name, target)


def _upload(directory: Path, runs_dir: StorePath, run: str) -> None:
    """As _move_in; the events, which make the run known everywhere, come last."""
    if (directory / "description.json").is_file():
        description_file(runs_dir, run).write_bytes((directory / "description.json").read_bytes())
    for part, path in (("run", runs_dir / run), (EVENTS_DIRECTORY, runs_dir / EVENTS_DIRECTORY)):
        for file in sorted((directory / part).rglob("*")):
            if file.is_file():
                path.joinpath(file.relative_to(directory / part)).upload(file)
