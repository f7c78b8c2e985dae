"""Leases: what a lock on a file is on the local disk, for a store, where there are none.

A lease is a small object that names its owner and the time until which it is held. The owner renews it while it works;
that of a killed process expires, or is free at once for another process of the same machine. The clocks of the machines
that share a store differ by less than GRACE_SECONDS.
"""

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.store_path import StorePath

LEASE_SECONDS = 60.0
GRACE_SECONDS = 5.0
_READ_BACK_SECONDS = 1.0


class LeaseHeldError(Exception):
    """Another process holds the lease. The message says which."""


class Lease:
    """A lease that this process holds."""

    def __init__(self, path: StorePath, *, seconds: float, interrupts: bool) -> None:
        self._path = path
        self._seconds = seconds
        self._owner = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex}"
        self._interrupts = interrupts
        self._ended = threading.Event()
        self._is_lost = False

    @property
    def is_lost(self) -> bool:
        """Whether the renewal found that another process has taken the lease over."""
        return self._is_lost

    def check(self) -> None:
        """Raise UserError if another process has taken the lease over, as this one did not renew it in time."""
        if self._is_lost or not self._is_own():
            raise UserError(
                f"{self._path.parent} was taken over by another process, as this one could not reach the store for "
                f"{self._seconds:g} s: run the command again"
            )

    def acquire(self) -> None:
        """Raises LeaseHeldError if another process holds it."""
        if self._path.create(self._content()):
            return
        owner, until = _read(self._path)
        if not owner:  # it may be being written, in a store that shows that
            time.sleep(_READ_BACK_SECONDS)
            owner, until = _read(self._path)
        if owner and time.time() < until + GRACE_SECONDS:
            raise LeaseHeldError(owner.rpartition(", ")[0])
        # Of several processes that find it expired, the one that writes last has it.
        self._path.write_bytes(self._content())
        time.sleep(_READ_BACK_SECONDS)
        if not self._is_own():
            raise LeaseHeldError(_read(self._path)[0].rpartition(", ")[0])

    def renew_until_ended(self) -> None:
        """Renew the lease, in a thread, until it is released or lost."""
        while not self._ended.wait(self._seconds / 4):
            with suppress(OSError, UserError):  # a store that is away for a moment; what counts is whether it is lost
                if not self._is_own():
                    self._is_lost = True
                    if self._interrupts:
                        os.kill(os.getpid(), signal.SIGINT)
                    return
                self._path.write_bytes(self._content())

    def release(self) -> None:
        """End the renewal, and let others have the lease."""
        self._ended.set()
        with suppress(OSError, UserError):
            if self._is_own():
                self._path.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        return _read(self._path)[0] == self._owner

    def _content(self) -> bytes:
        until = time.time() + self._seconds
        content = {"owner": self._owner, "until": until, "machine": _machine(), "pid": os.getpid()}
        return json.dumps(content).encode()


@contextmanager
def lease(path: StorePath, *, seconds: float = LEASE_SECONDS, interrupts: bool = False) -> Iterator[Lease]:
    """Hold the lease ``path`` during the block, and remove it then.

    interrupts: whether the block ends, with a UserError, as soon as another process has taken the lease over

    Raises LeaseHeldError if another process holds it.
    """
    held = Lease(path, seconds=seconds, interrupts=interrupts)
    held.acquire()
    renewal = threading.Thread(target=held.renew_until_ended, daemon=True)
    renewal.start()
    try:
        yield held
    except KeyboardInterrupt:
        if held.is_lost:
            held.check()
        raise
    finally:
        held.release()
        renewal.join()


def _read(path: StorePath) -> tuple[str, float]:
    """Owner, and time in seconds; no owner if nobody holds the lease, or its object is damaged.

    The time is 0 if the owner was a process of this machine, and has ended.
    """
    try:
        content = json.loads(path.read_bytes())
        is_gone = content.get("machine") == _machine() and not Path(f"/proc/{content['pid']}").exists()
        return str(content["owner"]), 0.0 if is_gone else float(content["until"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return "", 0.0


def _machine() -> str:
    """Different for each machine, each of its starts and each container; a text of its own where Linux does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex
