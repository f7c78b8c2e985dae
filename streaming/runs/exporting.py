"""A run as one directory or zip file: for a colleague, an archive, or another runs directory.

export.json          the run's name, when it was exported, and the version of the format
description.json     display name, tags, note
run/                 its directory: options, result.json, checkpoints, attempts, TensorBoard logs
events/              its event files, from which live tables are written again
tables/NAME.parquet  its rows of each live table, for any reader of Parquet
"""

import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, scratch_directory, write_atomically, write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.base.store_path import StorePath
from longtail.streaming.runs.trash import things_of
from longtail.streaming.tables.manifest import list_runs
from longtail.streaming.tables.reading import read_result_table
from longtail.streaming.tables.schemas import QUARANTINE, TABLES

EXPORT_FILE = "export.json"
EXPORT_FORMAT_VERSION = 1
TABLES_IN_EXPORT = "tables"
_NOT_EXPORTED = frozenset({"lock", "lease", "heartbeats"})
"""Of a run's directory: what says that a process is working on it."""


def export_run(runs_dir: Location, tables_dirs: Sequence[Path], run: str, target: Path) -> None:
    """Write a run to a zip file if the target ends in .zip, otherwise to a new directory.

    Raises UserError if the target exists, or if there is a link in the run's directory, which may lead anywhere.
    """
    if os.path.lexists(target):
        raise UserError(f"{target} exists: remove it, or choose another one")
    if (inside := target.absolute()).is_relative_to(str((runs_dir / run).absolute())):
        raise UserError(f"{inside} lies in the directory of the run: choose another one")
    check_can_be_written(inside.parent, option="export to")
    if isinstance(runs_dir, Path):
        _export(dict(_files(runs_dir, run)), tables_dirs, run, target)  # all are found before anything is written
        return
    with scratch_directory(target.absolute().parent, target.stem) as directory:
        _export(_downloaded(runs_dir, run, directory), tables_dirs, run, target)


def _export(files: Mapping[str, Path], tables_dirs: Sequence[Path], run: str, target: Path) -> None:
    if target.suffix == ".zip":
        with scratch_directory(target.absolute().parent, target.stem) as directory:
            _write_made(tables_dirs, run, directory)
            made = {str(file.relative_to(directory)): file for file in directory.rglob("*") if file.is_file()}
            write_atomically(target, partial(_write_zip, {**made, **files}))
        return
    with new_directory(target.absolute()) as directory:
        _write_made(tables_dirs, run, directory)
        for name, file in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, directory / name)


def _write_made(tables_dirs: Sequence[Path], run: str, directory: Path) -> None:
    """Write what an export has beside copies."""
    values = {"format_version": EXPORT_FORMAT_VERSION, "run": run, "exported_at": time.time()}
    write_json_atomically(directory / EXPORT_FILE, values)
    tables_dir = next((tables_dir for tables_dir in tables_dirs if run in list_runs(tables_dir)), None)
    if tables_dir is None:
        return
    for name in TABLES:
        if name != QUARANTINE and (rows := read_result_table(tables_dir, name, run)).num_rows:
            file = directory / TABLES_IN_EXPORT / f"{name}.parquet"
            write_atomically(file, partial(pq.write_table, rows, compression="zstd"))


def _files(runs_dir: Path, run: str) -> Iterator[tuple[str, Path]]:
    """The files of a run by their names in the export."""
    for name, path in things_of(runs_dir, run).items():
        if not path.is_dir() or path.is_symlink():
            yield name, _no_link(path)
            continue
        for parent, directories, names in os.walk(path):
            # Sorted, so that two exports of the same run are the same.
            directories[:] = sorted(set(directories) - _NOT_EXPORTED)
            for found in (Path(parent) / name for name in [*sorted(set(names) - _NOT_EXPORTED), *directories]):
                _no_link(found)
                if found.is_file():
                    yield f"{name}/{found.relative_to(path)}", found


def _downloaded(runs_dir: Location, run: str, directory: Path) -> dict[str, Path]:
    """Copies of the files of a run in a store, by their names in the export."""
    found: dict[str, Path] = {}
    for name, path in things_of(runs_dir, run).items():
        assert isinstance(path, StorePath)
        for file in path.files_below():
            if _NOT_EXPORTED.isdisjoint(file.relative_to(path).parts):
                copy = directory / name / file.relative_to(path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                file.download(copy)
                found[str(copy.relative_to(directory))] = copy
    return found


def _no_link(path: Path) -> Path:
    if path.is_symlink():
        raise UserError(f"{path} is a link to {os.readlink(path)}: put the file itself there, or remove the link")
    return path


def _write_zip(files: Mapping[str, Path], target: Path) -> None:
    # Checkpoints and Parquet hardly shrink, and events do.
    with zipfile.ZipFile(target, "w") as archive:
        for name, file in files.items():
            is_text = file.suffix in (".json", ".jsonl")
            archive.write(file, name, zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED)
