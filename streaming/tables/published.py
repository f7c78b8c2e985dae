"""Result tables in a store: their writer keeps them on the local disk and copies what has changed, readers copy it.

    with working_tables(location("s3a://bucket/runs/analytics")) as (tables_dir, publish): ...     # the one writer
    Copy(store, directory).fetch()                                                                  # a reader
    with copied_manifests(location("s3a://bucket/runs/analytics")) as tables_dir: ...    # how the runs stand, no more

The data are uploaded first, then what names them, and what nothing names any more is removed last: so a reader finds
whatever a manifest names. The checkpoint of the query stays on the local disk: a new writer begins with the tables of
the store, reads the events again, and they count once.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from longtail.conf.base.errors import UserError
from longtail.conf.base.leases import LeaseHeldError, lease
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.events.files import listed
from longtail.streaming.tables.manifest import MANIFEST
from longtail.streaming.tables.writing import LIVENESS

LEASE_FILE = "lease"
_NOT_COPIED = frozenset({"checkpoint", "batch", "lock", LEASE_FILE})
"""Names of files and directories, at any depth, that are of use to their writer alone."""
_TRIES = 5
FETCH_SECONDS = 5.0
READERS = 16
"""Files that are read from a store at the same time: most of it is waiting."""

Publish = Callable[[list[str]], None]
"""Takes the names of the runs that changed, as start_live_query gives them to on_update."""


@contextmanager
def working_tables(tables_dir: Location) -> Iterator[tuple[Path, Publish]]:
    """A local directory in which to keep the tables, and what brings them to ``tables_dir`` after an update.

    Raises UserError if another process is writing the tables in the store.
    """
    if isinstance(tables_dir, Path):
        yield tables_dir, lambda runs: None
        return
    try:
        with (
            lease(tables_dir / LEASE_FILE, interrupts=True),
            tempfile.TemporaryDirectory(prefix="longtail-tables-") as directory,
        ):
            copy = Copy(tables_dir, Path(directory))
            copy.fetch()
            yield Path(directory), lambda runs: copy.publish()
            copy.publish()
    except LeaseHeldError as error:
        raise UserError(
            f"another process is writing the tables in {tables_dir} ({error}): read them, or choose another "
            f"--output_dir"
        ) from None


@contextmanager
def followed_tables(tables_dir: Location) -> Iterator[Path]:
    """A local directory that has the tables in ``tables_dir``, FETCH_SECONDS later if these are in a store."""
    if isinstance(tables_dir, Path):
        yield tables_dir
        return
    ended = Event()
    with tempfile.TemporaryDirectory(prefix="longtail-tables-") as directory:
        copy = Copy(tables_dir, Path(directory))
        copy.fetch()

        def follow() -> None:
            while not ended.wait(FETCH_SECONDS):
                with suppress(OSError, UserError):  # a store that is away for a moment
                    copy.fetch()

        thread = Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield Path(directory)
        finally:
            ended.set()
            thread.join()


@contextmanager
def copied_manifests(tables_dir: StorePath) -> Iterator[Path]:
    """A local directory of the same name that has of the tables what a list of runs needs: one small file of each."""

    def copy(name: str) -> None:
        with suppress(FileNotFoundError):
            content = tables_dir.joinpath(name).read_bytes()
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)

    with tempfile.TemporaryDirectory(prefix="longtail-tables-") as scratch, ThreadPoolExecutor(READERS) as pool:
        directory = Path(scratch) / tables_dir.name
        directory.mkdir()
        names = [f"runs/{run}/{MANIFEST}" for run in listed(tables_dir / "runs")]
        for _ in pool.map(copy, [LIVENESS, *names]):
            pass
        yield directory


class Copy:
    """A local directory, and the directory of a store that it is a copy of."""

    def __init__(self, store: StorePath, directory: Path) -> None:
        self._store, self._directory = store, directory
        self._published: dict[str, tuple[int, int]] = {}
        self._fetched: dict[str, str] = {}

    def publish(self) -> None:
        """Bring the store up to date with the local directory."""
        present = {name: self._state(name) for name in self._local_names()}
        changed = {name for name, state in present.items() if self._published.get(name) != state}
        for name in sorted(changed, key=_names_others):
            with suppress(FileNotFoundError):  # replaced meanwhile, and its successor is published next
                self._store.joinpath(name).upload(self._directory / name)
        for name in self._published.keys() - present.keys():
            self._store.joinpath(name).unlink(missing_ok=True)
        self._published = present

    def fetch(self) -> None:
        """Bring the local directory up to date with the store."""
        for tries_left in reversed(range(_TRIES)):
            try:
                self._fetch()
                break
            except FileNotFoundError:  # replaced while it was looked at
                if not tries_left:
                    raise
        self._published = {name: self._state(name) for name in self._local_names()}

    def _fetch(self) -> None:
        # What names others first, and written last: whatever it names is there when the data are listed.
        naming = {name: self._store.joinpath(name).read_bytes() for name in self._remote() if _names_others(name)}
        remote = self._remote()
        for name, version in remote.items():
            if not _names_others(name) and self._fetched.get(name) != version:
                (self._directory / name).parent.mkdir(parents=True, exist_ok=True)
                self._store.joinpath(name).download(self._directory / name)
        for name, content in naming.items():
            (self._directory / name).parent.mkdir(parents=True, exist_ok=True)
            (self._directory / name).write_bytes(content)
        for name in self._local_names():
            if name not in remote and name not in naming:
                (self._directory / name).unlink(missing_ok=True)
        self._fetched = remote

    def _remote(self) -> dict[str, str]:
        """The version of each file in the store."""
        names = (file.relative_to(self._store).as_posix() for file in self._store.files_below())
        return {name: self._store.joinpath(name).stat().version for name in names if _is_copied(name)}

    def _local_names(self) -> list[str]:
        files = (file for file in self._directory.rglob("*") if file.is_file())
        return [name for file in files if _is_copied(name := file.relative_to(self._directory).as_posix())]

    def _state(self, name: str) -> tuple[int, int]:
        with suppress(FileNotFoundError):
            status = (self._directory / name).stat()
            return status.st_mtime_ns, status.st_size
        return 0, 0


def _is_copied(name: str) -> bool:
    parts = name.split("/")
    return _NOT_COPIED.isdisjoint(parts) and not any(part.startswith(".") for part in parts)


def _names_others(name: str) -> bool:
    """Whether a file names others, as manifests and the logs of Delta tables do."""
    return not name.endswith(".parquet")
