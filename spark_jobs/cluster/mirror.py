"""Keeps directories at the driver as a rank fills them, while it runs: events, heartbeats, checkpoints, the result.

    with mirrored(client, {"run": run_dir, "events": events_dir}):
        train

sends, twice a second, each file that is new or has changed. Files that have grown (TensorBoard's) are continued;
removed ones are removed. Of the places, a later one's files arrive before those of an earlier one that were written
after them: so events, which come last, are never missing for a checkpoint that is there.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.file_client import FileClient

SECONDS = 0.5
_GROWING = "tfevents"
"""In the names of TensorBoard's files. Of others, a number of an inode may be that of a removed one."""
LAST_SECONDS = 60
"""How long a rank that has ended tries to send its last files."""


@dataclass(frozen=True)
class _State:
    """Of a file: which one has this name, how large it is, and when it was changed."""

    inode: int
    size: int
    changed: int


class Mirror:
    """The directories, by the names of their places at the driver, and what of them was sent."""

    def __init__(self, client: FileClient, directories: Mapping[str, Path]) -> None:
        self._client = client
        self._directories = dict(directories)
        self._sent: dict[str, _State] = {
            f"{place}/{file.relative_to(directory)}": _state(file)
            for place, directory in self._directories.items()
            for file in _files(directory)
        }

    def send(self) -> None:
        """Send what has changed. Raises OSError if the driver cannot be reached, UserError if it cannot write."""
        with ExitStack() as opened:
            # Files are renamed into place, so what is opened now stays what it is now.
            found = [_opened(place, directory, opened) for place, directory in self._directories.items()]
            for files in reversed(found):
                for name, file in files.items():
                    self._send_file(name, file)
            gone = self._sent.keys() - {name for files in found for name in files}
        for name in gone:
            self._client.remove(name)
            del self._sent[name]

    def _send_file(self, name: str, file: BufferedIOBase) -> None:
        status = os.fstat(file.fileno())
        state, sent = _State(status.st_ino, status.st_size, status.st_mtime_ns), self._sent.get(name)
        if state == sent:
            return
        has_grown = _GROWING in name and sent is not None and sent.inode == state.inode and 0 < sent.size <= state.size
        self._client.send(name, file, offset=sent.size if sent and has_grown else 0, size=state.size)
        self._sent[name] = state


@contextmanager
def mirrored(client: FileClient, directories: Mapping[str, Path]) -> Iterator[None]:
    """Send what changes in the directories during the block, at its end also what it leaves when it fails.

    Raises UserError if the last files cannot be sent, or if the driver cannot write what it is sent.
    """
    mirror, stop = Mirror(client, directories), threading.Event()

    def send_until_stopped() -> None:
        while not stop.wait(SECONDS):
            # An error of the connection may pass; the driver ends the stage if it cannot write.
            with suppress(OSError, UserError):
                mirror.send()

    thread = threading.Thread(target=send_until_stopped, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        thread.join()
        with suppress(OSError, UserError):
            mirror.send()
        raise
    stop.set()
    thread.join()
    _send_last(mirror)


def _send_last(mirror: Mirror) -> None:
    deadline = time.monotonic() + LAST_SECONDS
    while True:
        try:
            return mirror.send()
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UserError(
                    f"a rank cannot send its files to the driver ({error}): give --runs_dir a directory that all hosts "
                    f"share, and run the command again"
                ) from None
            time.sleep(SECONDS)


def _files(directory: Path) -> Iterator[Path]:
    """The files below a directory, but hidden ones: those are unfinished."""
    for file in sorted(directory.rglob("*")):
        if not file.name.startswith(".") and file.is_file():
            yield file


def _opened(place: str, directory: Path, opened: ExitStack) -> dict[str, BufferedIOBase]:
    found: dict[str, BufferedIOBase] = {}
    for file in _files(directory):
        with suppress(FileNotFoundError):  # removed since it was listed
            found[f"{place}/{file.relative_to(directory)}"] = opened.enter_context(file.open("rb"))
    return found


def _state(file: Path) -> _State:
    status = file.stat()
    return _State(status.st_ino, status.st_size, status.st_mtime_ns)
