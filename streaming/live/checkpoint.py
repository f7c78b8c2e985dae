"""Which source a streaming query's checkpoint belongs to: it counts the offsets of one source and knows no other.

CHECKPOINT/longtail.json
"""

import json
import sys
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import new_directory, write_json_atomically
from longtail.conf.base.formats import check_format_version

SOURCE_FILE = "longtail.json"
FORMAT_VERSION = 1
FILES = "event files"
"""The source of a checkpoint without a record: event files, wherever their directory is now."""


def topic_source(topic: str, cluster: str) -> str:
    """The source of a topic; cluster is the identity that Kafka gave it."""
    return f"the topic {topic} of the Kafka cluster {cluster}"


def claim_checkpoint(directory: Path, source: str, *, new: bool) -> None:
    """Let a checkpoint belong to a source; with new, empty it first, so that the source is read from its beginning.

    A checkpoint of which files were deleted, with which Spark would never start again, is emptied too.

    Raises UserError if it belongs to another one.
    """
    if not new and (missing := missing_part(directory)):
        print(
            f"longtail: {missing} is missing: events are read again from the beginning, and count once",
            file=sys.stderr,
            flush=True,
        )
        new = True
    if new:
        with new_directory(directory, replace=True):
            pass
    is_used = (directory / "offsets").exists()
    found = _recorded(directory / SOURCE_FILE) or (FILES if is_used else source)
    if is_used and found != source:
        raise UserError(
            f"{directory} belongs to a query on {found}, not on {source}: --new_checkpoint reads the new source from "
            f"its beginning (events count once), or choose another directory"
        )
    write_json_atomically(directory / SOURCE_FILE, {"format_version": FORMAT_VERSION, "source": source})


def is_of_source(directory: Path, source: str) -> bool:
    """Whether a checkpoint has a record that says that it belongs to this source."""
    try:
        return _recorded(directory / SOURCE_FILE) == source
    except UserError:
        return False


def missing_part(directory: Path) -> Path | None:
    """A file that a checkpoint needs and lacks; None if it is whole, or new."""
    offsets, commits = (_numbers(directory / name) for name in ("offsets", "commits"))
    if not offsets and not commits:
        return directory / "offsets" if (directory / "sources").exists() else None
    last = max(offsets | commits)
    # Spark starts from the last batch, and looks at the one before.
    needed = [directory / "metadata", *(directory / "offsets" / str(n) for n in (last, last - 1) if n >= 0)]
    return next((file for file in needed if not file.is_file()), None) or _missing_of_source(directory, last)


def _missing_of_source(directory: Path, batch: int) -> Path | None:
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


def _numbers(directory: Path) -> set[int]:
    return {int(file.name) for file in directory.iterdir() if file.name.isdecimal()} if directory.is_dir() else set()


def _recorded(file: Path) -> str | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, source = content["format_version"], content["source"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}): --new_checkpoint reads the source from its beginning") from None
    check_format_version(version, newest=FORMAT_VERSION, file=file, remedy="use --new_checkpoint")
    return str(source)
