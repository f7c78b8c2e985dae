"""Which event files are new: those whose names were not passed on before. No Spark."""

import json
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_text_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.streaming.events.archives import UNREADABLE, archived_names
from longtail.streaming.events.files import archive_names, file_names, run_of_event_file
from longtail.streaming.runs.trash import trash_entries

LOG = "passed_event_files.jsonl"
LOOK_AT_ARCHIVES_SECONDS = 5
"""Archives are looked for when files have gone, and otherwise this often."""
_LOG_LINES = 1000


class NewFiles:
    """Finds the event files of a directory, live and archived, that were not passed on yet.

    Names that have gone are forgotten: a file that is put back is new. An archive is new unless all that went into it
    was passed on.

    state_dir: for the names that were passed on; None: they are forgotten with this object
    """

    def __init__(self, events_dir: Location, state_dir: Location | None = None) -> None:
        self._events_dir = events_dir
        self._log = state_dir / LOG if state_dir else None
        self._live: set[str] = set()
        self._archives: set[str] = set()
        self._archives_until = -float("inf")
        lines = _lines(self._log) if self._log else []
        # A new run of a deleted one's name has files of the same names. Events that come again count once.
        deleted = _deleted_runs(events_dir) if lines else set[str | None]()
        self._passed = {name for name in lines if run_of_event_file(name) not in deleted}
        self._num_lines = len(lines)

    def look(self) -> list[str]:
        """The names of the new files, sorted; from now on they are passed on."""
        live = {*file_names(self._events_dir)}
        if live == self._live and monotonic() < self._archives_until:
            return []
        self._live = live
        # After the others: a file that is in an archive now was there, or its archive is.
        if self._passed - live - self._archives or monotonic() > self._archives_until:
            self._archives = {*archive_names(self._events_dir)}
            self._archives_until = monotonic() + LOOK_AT_ARCHIVES_SECONDS
        present = live | self._archives
        new = present - self._passed
        covered = {name for name in new & self._archives if self._is_covered(name)}
        self.log(sorted(covered))
        self._passed = (self._passed & present) | new
        return sorted(new - covered)

    def add(self, names: Iterable[str]) -> None:
        """Take these as passed on."""
        self._passed.update(names)

    def log(self, names: Iterable[str]) -> None:
        """Remember over restarts that these were passed on. If that fails, they are passed on once more after one."""
        lines = [json.dumps(name) for name in names]
        if not self._log or not lines:
            return
        with suppress(OSError):
            is_long = self._num_lines + len(lines) > _LOG_LINES + 2 * len(self._passed)
            if isinstance(self._log, StorePath) or is_long:  # nothing can be added to a file in a store
                lines = [json.dumps(name) for name in sorted(self._passed)]
                write_text_atomically(self._log, "".join(f"{line}\n" for line in lines))
                self._num_lines = len(lines)
                return
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
            self._num_lines += len(lines)

    def _is_covered(self, archive: str) -> bool:
        if not self._passed:
            return False
        try:
            return self._passed.issuperset(archived_names(self._events_dir / archive))
        except UNREADABLE:
            return False


def _deleted_runs(events_dir: Location) -> set[str | None]:
    with suppress(UserError, OSError):
        return {entry.run for entry in trash_entries(events_dir.parent) if entry.hides_events}
    return set()


def _lines(log: Location) -> list[str]:
    """Names in a log; of one that is damaged, those before the damage."""
    found = []
    with suppress(OSError, ValueError):
        found.extend(map(json.loads, log.read_text(encoding="utf-8").splitlines()))
    return [name for name in found if isinstance(name, str)]
