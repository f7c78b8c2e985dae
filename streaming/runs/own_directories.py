"""The directories in a runs directory that are Longtail's own. A run of such a name, in events of others, has none."""

from longtail.streaming.events.writer import EVENTS_DIRECTORY
from longtail.streaming.tables.manifest import TABLES_DIRECTORY

TRASH_DIRECTORY = "trash"
DESCRIPTIONS_DIRECTORY = "descriptions"
PAGE_TABLES_DIRECTORY = "dashboard"
RELAY_DIRECTORY = "relay"

_OWN = {
    EVENTS_DIRECTORY,
    TABLES_DIRECTORY,
    TRASH_DIRECTORY,
    DESCRIPTIONS_DIRECTORY,
    PAGE_TABLES_DIRECTORY,
    RELAY_DIRECTORY,
}


def is_own_directory(name: str) -> bool:
    """Whether a name is that of a directory of Longtail's own, also where capital letters make no difference."""
    return name.casefold() in _OWN
