"""Cancels a barrier stage whose ranks stop sending heartbeats.

Spark reports nothing when a rank hangs, or when a worker is lost and no other is free: the stage would wait forever.
The watchdog reads the ranks' heartbeats (training/heartbeat.py) on the driver and cancels the stage when one stays
unchanged for too long. Changes are timed by the driver's clock, so that clocks of hosts need not agree.
"""

import json
import threading
import time
from collections.abc import Callable

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.training.heartbeat import heartbeat_file

POLL_SECONDS = 1.0
POLL_SECONDS_OF_STORES = 5.0


class RankSilentError(RuntimeError):
    """A rank sent no heartbeat for too long; the message names it."""


class Watchdog:
    """Context manager around the stage: calls `cancel` once when a rank is silent for `timeout_seconds`.

    An exception that leaves the block after that becomes RankSilentError.
    """

    def __init__(
        self, directory: Location, *, world_size: int, timeout_seconds: float, cancel: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._timeout = timeout_seconds
        self._seconds = POLL_SECONDS_OF_STORES if isinstance(directory, StorePath) else POLL_SECONDS
        self._cancel = cancel
        self._silent: str | None = None
        # Per rank: its last heartbeat, and when (by this machine's clock) it changed.
        self._seen: dict[int, tuple[str, float]] = {rank: ("", time.monotonic()) for rank in range(world_size)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        for rank in self._seen:  # left by an attempt that was killed
            heartbeat_file(self._directory, rank).unlink(missing_ok=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._silent is not None and isinstance(error, Exception):
            raise RankSilentError(self._silent) from error

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self._read_heartbeats()
            now = time.monotonic()
            silent = {rank: heartbeat for rank, (heartbeat, since) in self._seen.items() if now - since > self._timeout}
            if silent:
                named = "; ".join(f"rank {rank}, {_last_seen(heartbeat)}" for rank, heartbeat in silent.items())
                self._silent = f"no heartbeat for {self._timeout:g} s: {named}"
                self._cancel()
                return

    def _read_heartbeats(self) -> None:
        for rank, (last, _) in self._seen.items():
            try:
                heartbeat = heartbeat_file(self._directory, rank).read_text(encoding="utf-8")
            except FileNotFoundError:
                continue  # not started or finished
            except (OSError, UserError):
                # The directory is unavailable to the driver, which says nothing about the rank.
                self._seen[rank] = (last, time.monotonic())
                continue
            if heartbeat != last:
                self._seen[rank] = (heartbeat, time.monotonic())


def _last_seen(heartbeat: str) -> str:
    if not heartbeat:
        return "which never started"
    fields = json.loads(heartbeat)
    process = f"process {fields['pid']} on {fields['host']}"
    return f"{process}, last seen at {fields['activity']} ({fields['count']} heartbeats)"
