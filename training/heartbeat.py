"""Heartbeat of a rank: a small file with its progress, rewritten every few seconds.

The main thread increments a counter (`beat`) and a background thread writes it. A rank that hangs keeps writing the
same count, and one whose process ended or was stopped writes nothing: a watcher of the count detects both.
"""

import os
import socket
import threading
from contextlib import suppress

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath

WRITE_SECONDS = 2.0
WRITE_SECONDS_OF_STORES = 10.0
"""Each write to a store is a request that costs time, and money."""


class Heartbeat:
    """Context manager that writes the heartbeat file while a rank runs; its training loop calls `beat`."""

    def __init__(self, directory: Location, *, rank: int) -> None:
        self._file = heartbeat_file(directory, rank)
        self._seconds = WRITE_SECONDS_OF_STORES if isinstance(directory, StorePath) else WRITE_SECONDS
        self._count = 0
        self._activity = "loading"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_until_stopped, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError, UserError):
            self._file.unlink(missing_ok=True)

    def beat(self, activity: str) -> None:
        """Report progress; activity: what the rank does next (forward, backward or evaluation)."""
        self._count += 1
        self._activity = activity

    def _write_until_stopped(self) -> None:
        while not self._stop.wait(self._seconds):
            # A heartbeat that cannot be written (full disk, moved directory) is skipped; the training goes on.
            with suppress(OSError, UserError):
                self._write()

    def _write(self) -> None:
        fields = {"count": self._count, "activity": self._activity, "pid": os.getpid(), "host": socket.gethostname()}
        write_json_atomically(self._file, fields)


def heartbeat_file(directory: Location, rank: int) -> Location:
    """The heartbeat file of a rank. Its content changes while the rank works; its date also while the rank hangs."""
    return directory / f"rank{rank:04d}.json"
