"""Run manifests: which Parquet files the result tables of a run consist of. No Spark.

    TABLES_DIR/runs/RUN/manifest.json
    TABLES_DIR/runs/RUN/class_epochs-0-1a2b3c4d.parquet ...

An update writes new Parquet files, then replaces the manifest, then removes the files that no manifest names. So a
reader sees the tables of a run either before or after an update, even if the writer is killed in between. The live
query makes up to three updates per micro-batch (streaming/live/keeper.py): scores first, so a reader may see them
before the other tables follow. An update costs as much as the segments that it changes, however long the run is.
"""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text, write_text_atomically
from longtail.conf.base.formats import check_format_version
from longtail.streaming.events.schema import RUN_NAME
from longtail.streaming.tables.schemas import TABLES_FORMAT_VERSION

TABLES_DIRECTORY = "analytics"
"""Default directory of the tables, inside the directory of the runs."""
MANIFEST = "manifest.json"

ManifestState = tuple[int, int]


@dataclass
class RunManifest:
    """The contents of a run's tables.

    segment_epochs: number of epochs per segment, per table of BY_EPOCH
    files: per table, the file of each segment ("0", "1", ... or "all")
    splits: the splits that class_epochs has had rows of, sorted
    rows: per table of IN_MANIFEST, its rows; and LATEST_EPOCHS
    """

    run: str
    segment_epochs: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    splits: list[str] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def segment_of(self, name: str, epoch: int) -> int:
        """The index of the segment of a table that holds an epoch."""
        return epoch // self.segment_epochs[name]


ReadManifest = Callable[[Path, str], RunManifest | None]
"""As read_run_manifest."""

_MANIFEST = TypeAdapter(RunManifest)


class DamagedTables(UserError):
    """Tables of a run that cannot be read: files are missing, or have another content.

    run: its name
    """

    def __init__(self, run: str, file: Path, reason: object) -> None:
        super().__init__(
            f"{file} is damaged ({' '.join(str(reason).split())[:200]}): delete {file.parent}, and `longtail monitor` "
            f"or `longtail dashboard`, whichever keeps it, writes it again from the events"
        )
        self.run = run


def list_runs(tables_dir: Path) -> list[str]:
    """Sorted names of all runs in the tables."""
    return [*manifest_states(tables_dir)]


def run_directory(tables_dir: Path, run: str) -> Path:
    """The directory of a run's files. Raises ValueError for an invalid name: no name leads out of the tables."""
    if not RUN_NAME.fullmatch(run):
        raise ValueError(f"{run!r} is not a valid name of a run")
    return tables_dir / "runs" / run


def read_run_manifest(tables_dir: Path, run: str) -> RunManifest | None:
    """The manifest of a run, None if the tables do not have it.

    Raises DamagedTables if it is damaged, and UserError if a newer Longtail wrote it.
    """
    file = run_directory(tables_dir, run) / MANIFEST
    try:
        content = json.loads(read_regular_text(file))
        if not isinstance(content, dict) or not isinstance(version := content.pop("format_version", None), int):
            raise ValueError("a JSON object with a format_version was expected")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedTables(run, file, error) from None
    check_tables_version(version, file)
    try:
        manifest = _MANIFEST.validate_json(json.dumps(content), strict=True)
        if manifest.run != run or any(epochs < 1 for epochs in manifest.segment_epochs.values()):
            raise ValueError(f"it is of the run {manifest.run!r}, with segments of {manifest.segment_epochs} epochs")
        # No file outside the run's directory.
        names = [name for by_segment in manifest.files.values() for name in by_segment.values()]
        if foreign := [name for name in names if Path(name).name != name]:
            raise ValueError(f"it names the file {foreign[0]!r}")
    except ValueError as error:  # pydantic's errors are ValueErrors, too
        raise DamagedTables(run, file, error) from None
    return manifest


def write_run_manifest(tables_dir: Path, manifest: RunManifest) -> None:
    """Replace the manifest of a run."""
    text = json.dumps({"format_version": TABLES_FORMAT_VERSION, **vars(manifest)})
    write_text_atomically(run_directory(tables_dir, manifest.run) / MANIFEST, text)


def remove_run_manifest(tables_dir: Path, run: str) -> None:
    """Remove the manifest of a run: then the tables do not have it."""
    (run_directory(tables_dir, run) / MANIFEST).unlink(missing_ok=True)


def check_tables_version(version: object, file: Path) -> None:
    """Raise UserError if result tables have a newer format than this version of Longtail reads."""
    remedy = "use another directory of result tables"
    check_format_version(version, newest=TABLES_FORMAT_VERSION, file=file, remedy=remedy)


def check_format_versions(tables_dir: Path, *, read: ReadManifest = read_run_manifest) -> None:
    """Raise UserError if a newer version of Longtail has written tables of any run in the directory."""
    for run in list_runs(tables_dir):
        with contextlib.suppress(DamagedTables):  # the tables can be written again
            read(tables_dir, run)


def manifest_state(tables_dir: Path, run: str) -> ManifestState | None:
    """A value that changes whenever the tables of a run do; None if there are none."""
    return _state(f"{run_directory(tables_dir, run)}/{MANIFEST}")


def manifest_states(tables_dir: Path) -> dict[str, ManifestState]:
    """The same by run, of all runs in the tables, sorted by name."""
    directory = tables_dir / "runs"
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    # A directory without a manifest is a run whose first update was interrupted.
    states = ((name, _state(f"{directory}/{name}/{MANIFEST}")) for name in names)
    return {name: state for name, state in states if state is not None}


class KnownManifests:
    """Reads manifests again and again, one that is as before only once. For readers, who change nothing in them."""

    def __init__(self) -> None:
        """Knows none at first."""
        self._known: dict[Path, tuple[ManifestState, RunManifest]] = {}

    def read(self, tables_dir: Path, run: str) -> RunManifest | None:
        """As read_run_manifest."""
        directory = run_directory(tables_dir, run)
        # Before it is read: one that is replaced meanwhile is read again the next time.
        state = manifest_state(tables_dir, run)
        known = self._known.get(directory)
        if known is not None and known[0] == state:
            return known[1]
        self._known.pop(directory, None)
        manifest = read_run_manifest(tables_dir, run)
        if state is not None and manifest is not None:
            self._known[directory] = state, manifest
        return manifest


def _state(file: str) -> ManifestState | None:
    # Not by pathlib, which takes ten times as long: readers look at each of many old runs, again and again.
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
