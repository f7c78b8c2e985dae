"""Which source a streaming query's checkpoint belongs to: it counts the offsets of one source and knows no other.

CHECKPOINT/longtail.json
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, write_json_atomically
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.leases import LeaseHeldError, lease
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

SOURCE_FILE = "longtail.json"
LEASE_FILE = "lease"
"""In a store, held by the process whose query has the checkpoint."""
FORMAT_VERSION = 1
FILES = "event files"
"""The source of a checkpoint without a record: event files, wherever their directory is now."""


@contextmanager
def held_checkpoint(directory: Location) -> Iterator[None]:
    """Hold a checkpoint in a store during the block; on the local disk Spark itself refuses a second query.

    Raises UserError if another process holds it.
    """
    if not isinstance(directory, StorePath):
        yield
        return
    try:
        with lease(directory / LEASE_FILE, interrupts=True):
            yield
    except LeaseHeldError as error:
        raise UserError(f"another process has the checkpoint {directory} ({error}): stop that one first") from None


def topic_source(topic: str, cluster: str) -> str:
    """The source of a topic; cluster is the identity that Kafka gave it."""
    return f"the topic {topic} of the Kafka cluster {cluster}"


def claim_checkpoint(directory: Location, source: str, *, new: bool) -> None:
    """Let a checkpoint belong to a source; with new, empty it first, so that the source is read from its beginning.

    A checkpoint of which files were deleted, with which Spark would never start again, is emptied too.

    Raises UserError if it belongs to another one.
    """
    empty_if_not_begun(directory)
    if not new and (missing := missing_part(directory)):
        print(
            f"longtail: {missing} is missing: events are read again from the beginning, and count once",
            file=sys.stderr,
            flush=True,
        )
        new = True
    if new:
        _empty(directory)
    is_used = (directory / "offsets").exists()
    found = _recorded(directory / SOURCE_FILE) or (FILES if is_used else source)
    if is_used and found != source:
        raise UserError(
            f"{directory} belongs to a query on {found}, not on {source}: --new_checkpoint reads the new source from "
            f"its beginning (events count once), or choose another directory"
        )
    write_json_atomically(directory / SOURCE_FILE, {"format_version": FORMAT_VERSION, "source": source})


def empty_if_not_begun(directory: Location) -> None:
    """Empty a checkpoint whose process ended while its first batch was recorded: Spark would never start with it."""
    offsets = directory / "offsets"
    if offsets.is_dir() and not _numbers(offsets) and not _numbers(directory / "commits") and any(offsets.iterdir()):
        _empty(directory)


def _empty(directory: Location) -> None:
    if isinstance(directory, StorePath):
        for entry in directory.iterdir() if directory.is_dir() else ():
            if entry.name != LEASE_FILE:
                entry.remove()
        return
    with new_directory(directory, replace=True):
        pass


def is_of_source(directory: Location, source: str) -> bool:
    """Whether a checkpoint has a record that says that it belongs to this source."""
    try:
        return _recorded(directory / SOURCE_FILE) == source
    except UserError:
        return False


def missing_part(directory: Location) -> Location | None:
    """A file that a checkpoint needs and lacks; None if it is whole, or new."""
    offsets, commits = (_numbers(directory / name) for name in ("offsets", "commits"))
    if not offsets and not commits:
        return directory / "offsets" if (directory / "sources").exists() else None
    last = max(offsets | commits)
    # Spark starts from the last batch, and looks at the one before.
    needed = [directory / "metadata", *(directory / "offsets" / str(n) for n in (last, last - 1) if n >= 0)]
    return next((file for file in needed if not file.is_file()), None) or _missing_of_source(directory, last)


def _missing_of_source(directory: Location, batch: int) -> Location | None:
    """A file that the log of the read files lacks, if the source of the checkpoint is Spark's file source."""
    log = directory / "sources" / "0"
    try:
        last = json.loads((directory / "offsets" / str(batch)).read_text(encoding="utf-8").splitlines()[-1])[
            "logOffset"
        ]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    names = {file.name for file in log.iterdir()} if log.is_dir() else set()
    for number in range(last, -1, -1):
        if f"{number}.compact" in names:  # it holds those before
            return None
        if str(number) not in names:
            return log / str(number)
    return None


def _numbers(directory: Location) -> set[int]:
    return {int(file.name) for file in directory.iterdir() if file.name.isdecimal()} if directory.is_dir() else set()


def _recorded(file: Location) -> str | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, source = content["format_version"], content["source"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): --new_checkpoint reads the source from its beginning") from None
    check_format_version(version, newest=FORMAT_VERSION, file=file, remedy="use --new_checkpoint")
    return str(source)
