"""Which source a streaming query's checkpoint belongs to: it counts the offsets of one source and knows no other.

CHECKPOINT/longtail.json
"""

import json
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

    Raises UserError if it belongs to another one.
    """
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
