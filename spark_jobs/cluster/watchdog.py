"""The driver's watch over the ranks of a barrier stage.

Spark stays silent when a rank hangs, or when a worker is lost and none is spare:
the stage would wait without end. The watchdog follows the ranks' heartbeats
(training/heartbeat.py) and cancels the stage when one does not change for too
long. It compares no clocks: it times by its own what it sees change.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from longtail.training.heartbeat import heartbeat_file

POLL_SECONDS = 1.0


class RankSilentError(RuntimeError):
    """A rank gave no sign of life for too long; the message names it."""


class Watchdog:
    """A context manager around the stage: calls `cancel` once when a rank is silent for `timeout_seconds`.

    An error that leaves the block after that becomes RankSilentError.
    """

    def __init__(self, directory: Path, *, world_size: int, timeout_seconds: float, cancel: Callable[[], None]) -> None:
        self._directory = directory
        self._timeout = timeout_seconds
        self._cancel = cancel
        self._silent: str | None = None
        # Per rank: what its file said last, and when (on this machine's clock) that was new.
        self._seen: dict[int, tuple[str, float]] = {rank: ("", time.monotonic()) for rank in range(world_size)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        for rank in self._seen:  # of an attempt that was killed
            heartbeat_file(self._directory, rank).unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._silent is not None and isinstance(error, Exception):
            raise RankSilentError(self._silent) from error

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()
            now = time.monotonic()
            silent = {rank: said for rank, (said, since) in self._seen.items() if now - since > self._timeout}
            if silent:
                named = "; ".join(f"rank {rank}, {_doing(said)}" for rank, said in silent.items())
                self._silent = f"no sign of life for {self._timeout:g} s: {named}"
                self._cancel()
                return

    def _look(self) -> None:
        for rank, (said, _) in self._seen.items():
            try:
                now = heartbeat_file(self._directory, rank).read_text(encoding="utf-8")
            except OSError:
                continue  # not begun, done, or the directory is gone for a moment
            if now != said:
                self._seen[rank] = (now, time.monotonic())


def _doing(said: str) -> str:
    if not said:
        return "which never began"
    heartbeat = json.loads(said)
    where = f"process {heartbeat['pid']} on {heartbeat['host']}"
    return f"{where}, last seen at {heartbeat['doing']} ({heartbeat['count']} beats)"
