"""All lines that hold events of one run, from the event files that are still there, and from archives."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.locations import Location
from longtail.streaming.event_files.reading import EventPiece, pieces_together, read_event_files
from longtail.streaming.events.files import event_files_of, files_of_many_runs, name_in


class RunLines:
    """The lines of a run's own event files, and of the files of many runs that name it."""

    def __init__(self, events_dir: Location, run: str) -> None:
        self._events_dir, self._run = events_dir, run
        others = [name_in(events_dir, file) for file in files_of_many_runs(events_dir)]
        self._names = [
            *(name_in(events_dir, file) for file in event_files_of(events_dir, run)),
            *(name for name in others if any(map(self._names_run, read_event_files(events_dir, [name])))),
        ]

    def exist(self) -> bool:
        """Whether there is any file."""
        return bool(self._names)

    def batches(self) -> Iterator[pa.Table]:
        """Tables of LINE_SCHEMA, which may hold events of other runs too."""
        for pieces in pieces_together(read_event_files(self._events_dir, self._names)):
            yield pa.concat_tables([piece.as_lines() for piece in pieces])

    def _names_run(self, piece: EventPiece) -> bool:
        in_lines = pc.any(pc.match_substring(piece.lines["value"], f'"{self._run}"')).as_py()
        return bool(in_lines) or any(pc.is_in(self._run, t["run"]).as_py() for t in piece.events.values())
