"""Archives event files beside a live query, so that what it looks at does not grow with all that was ever trained."""

from contextlib import suppress
from pathlib import Path

from longtail.streaming.archive import archive_files
from longtail.streaming.events.files import file_names

MAX_FILES = 1000
"""Event files that may wait before they are archived."""


class Archiver:
    """Archives the event files of a directory whenever there are many.

    Whoever else reads the directory finds in the archive what it has not read (streaming/event_files/).
    """

    def __init__(self, events_dir: Path) -> None:
        self._events_dir = events_dir
        self._left = 0

    def look(self) -> None:
        """Archive if there are many files. No effect where another process archives, or only reading is permitted.

        Raises UserError if the disk is full.
        """
        if len(file_names(self._events_dir)) > self._left + MAX_FILES:
            with suppress(OSError):
                archive_files(self._events_dir)
            # Damaged files stay, and must not be tried every second.
            self._left = len(file_names(self._events_dir))
