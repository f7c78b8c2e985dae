"""The sign of life of a rank: a small file that says how far it is, rewritten every few seconds.

The main thread only counts (`beat`); a thread of its own writes. So a rank that
hangs keeps writing the same count, one whose process is gone or stopped writes
nothing, and whoever watches the count sees both.
"""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically

WRITE_SECONDS = 2.0


class Heartbeat:
    """A context manager around the life of a rank; `beat` is called from its loop."""

    def __init__(self, directory: Path, *, rank: int) -> None:
        self._file = heartbeat_file(directory, rank)
        self._count = 0
        self._doing = "loading"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)

    def beat(self, doing: str) -> None:
        """The rank is alive and about to do this: forward, backward, evaluation."""
        self._count += 1
        self._doing = doing

    def _write_on(self) -> None:
        while not self._stop.wait(WRITE_SECONDS):
            # A beat that cannot be written (a full disk, a directory that is moved) is one missed, not the end of all.
            with suppress(OSError, UserError):
                self._write()

    def _write(self) -> None:
        life = {"count": self._count, "doing": self._doing, "pid": os.getpid(), "host": socket.gethostname()}
        write_json_atomically(self._file, life)


def heartbeat_file(directory: Path, rank: int) -> Path:
    """The file whose date says when the rank was last alive."""
    return directory / f"rank{rank:04d}.json"
