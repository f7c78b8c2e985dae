"""A prepared set comes into being at once: by the renaming of its directory, or in a store by its manifest.

In a store, where nothing is renamed, the manifest is written last and removed first. A set of which a killed process
has written a part is none; the next one removes the part. A lease keeps others from writing the same set meanwhile.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory
from longtail.conf.base.leases import Lease, LeaseHeldError, lease
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.data.manifest import FILE_NAME, Manifest, read_manifest

_WAIT_SECONDS = 2.0


def is_prepared(set_dir: Location) -> bool:
    """Whether there is a prepared set; on the local disk, also a damaged one."""
    return set_dir.exists() if isinstance(set_dir, Path) else (set_dir / FILE_NAME).exists()


@dataclass(frozen=True)
class NewSet:
    """A set that is being written to ``directory``. held: the lease, in a store"""

    directory: Location
    held: Lease | None = None

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, after everything else."""
        if self.held is not None:
            self.held.check()
        manifest.write(self.directory)


@contextmanager
def new_set(set_dir: Location, *, replace: bool, source_state: str | None) -> Iterator[NewSet]:
    """The set to write during the block.

    replace: whether it takes the place of an older one
    source_state: of the files that it is made from (data/sources/own_files.py)

    Raises FileExistsError if another process has made the same set meanwhile.
    """
    if isinstance(set_dir, Path):
        with new_directory(set_dir, replace=replace) as directory:
            yield NewSet(directory)
        return
    with ExitStack() as stack:
        held = _lease_of(set_dir, stack)
        if is_prepared(set_dir) and (not replace or _state_of(set_dir) == source_state):
            raise FileExistsError(f"{set_dir} was created by another process meanwhile")
        (set_dir / FILE_NAME).unlink(missing_ok=True)
        set_dir.remove()
        yield NewSet(set_dir, held)


def _lease_of(set_dir: StorePath, stack: ExitStack) -> Lease:
    """The lease of a set, when it is free."""
    is_told = False
    while True:
        try:
            return stack.enter_context(lease(set_dir.with_name(f".{set_dir.name}.lease")))
        except LeaseHeldError as error:
            if not is_told:
                print(f"waiting for another process that prepares {set_dir} ({error})")
            is_told = True
            time.sleep(_WAIT_SECONDS)


def _state_of(set_dir: Location) -> str | None:
    """The source_state of the set; an empty text for one that cannot be read."""
    try:
        return read_manifest(set_dir).source_state
    except UserError:
        return ""
