"""All lines that hold events of one run, from the event files that are still there."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from longtail.streaming.events.files import event_files_of, files_of_many_runs
from longtail.streaming.parsing.arrow import LINE_SCHEMA

BATCH_BYTES = 64 << 20
"""Lines are read in batches of about this size, which bounds memory."""


class RunLines:
    """The lines of a run's own event files, and of the files of many runs that name it."""

    def __init__(self, events_dir: Path, run: str) -> None:
        name = f'"{run}"'.encode()
        self._files = [
            *event_files_of(events_dir, run),
            *(file for file in files_of_many_runs(events_dir) if name in _content(file)),
        ]

    def exist(self) -> bool:
        """Whether there is any file."""
        return bool(self._files)

    def batches(self) -> Iterator[pa.Table]:
        """Tables of LINE_SCHEMA, which may hold events of other runs too."""
        lines: list[bytes] = []
        sources: list[str] = []
        num_bytes = 0
        for file in self._files:
            content = _content(file)
            of_file = content.splitlines()
            lines += of_file
            sources += [file.absolute().as_uri()] * len(of_file)
            num_bytes += len(content)
            if num_bytes > BATCH_BYTES:
                yield _table(lines, sources)
                lines, sources, num_bytes = [], [], 0
        if lines:
            yield _table(lines, sources)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes() if file.is_file() else b""
    except FileNotFoundError:  # the file of a step event, whose epoch is finished
        return b""


def _table(lines: list[bytes], sources: list[str]) -> pa.Table:
    texts = pa.array([line.decode("utf-8", "replace") for line in lines], pa.string())
    return pa.table([texts, pa.array(sources, pa.string())], names=LINE_SCHEMA.names).cast(LINE_SCHEMA)
