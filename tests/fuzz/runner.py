"""Runs a reader on one input after another in a child process, and tells what became of each."""

import faulthandler
import mmap
import os
import resource
import signal
import struct
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Protocol

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import MOST_CHARACTERS

MAX_BYTES = 256 * 2**20
MAX_SECONDS = 10
"""Of the processor for one input."""
_MAX_SILENCE = 60
"""Seconds without a next input after which a child is stuck, for example in a read from a pipe."""
_MAX_MESSAGE = MOST_CHARACTERS + len(" ... ")
_COUNTERS = struct.Struct("<QQQQ")
"""In memory shared with the child: number of the input, and how many were read, refused and failed."""


class Reader(Protocol):
    """A module of tests/fuzz/readers/."""

    def generate(self, random: Random) -> bytes:
        """An input."""
        ...

    def read(self, content: bytes, directory: Path) -> None:
        """Read an input; directory: for files of its own. Raises UserError to refuse it."""
        ...


@dataclass
class Outcome:
    """failures: by number of the input, what happened"""

    num_read: int = 0
    num_refused: int = 0
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def num_inputs(self) -> int:
        return self.num_read + self.num_refused + len(self.failures)


class _TooSlow(BaseException):
    pass


def an_input(reader: Reader, name: str, seed: int, number: int) -> bytes:
    return reader.generate(Random(f"{name}:{seed}:{number}"))


def run(reader: Reader, name: str, *, seed: int, seconds: float, max_inputs: int | None = None) -> Outcome:
    outcome, number = Outcome(), 0
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch, mmap.mmap(-1, _COUNTERS.size) as shared:
        failures = Path(scratch) / "failures"
        while time.monotonic() < deadline and (max_inputs is None or number < max_inputs):
            shared[:] = _COUNTERS.pack(number, 0, 0, 0)
            child = os.fork()
            if child == 0:
                _child(reader, name, seed, number, deadline, max_inputs, shared, Path(scratch), failures)
            ended = _watch(child, shared)
            number, num_read, num_refused, _ = _COUNTERS.unpack(shared[:])
            outcome.num_read += num_read
            outcome.num_refused += num_refused
            if ended is not None:
                outcome.failures[number] = ended
            number += 1
        if failures.exists():
            for line in failures.read_text(errors="replace").splitlines():
                failed, _, what = line.partition(" ")
                outcome.failures[int(failed)] = what
    return outcome


def _watch(child: int, shared: mmap.mmap) -> str | None:
    """Wait for the child; how it failed, None if it came to its end."""
    last, since = bytes(shared[:]), time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return (
                None if code == 0 else f"the interpreter ended with {signal.Signals(-code).name if code < 0 else code}"
            )
        time.sleep(0.02)
        if (now := bytes(shared[:])) != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > _MAX_SILENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "it did not end"


def _child(
    reader: Reader,
    name: str,
    seed: int,
    number: int,
    deadline: float,
    max_inputs: int | None,
    shared: mmap.mmap,
    directory: Path,
    failures: Path,
) -> None:
    """Never returns."""
    status = 1
    try:
        faulthandler.disable()  # pytest's would print a crash, which is counted here
        signal.signal(signal.SIGVTALRM, _too_slow)
        _limit_memory(4 * MAX_BYTES)
        num_read = num_refused = num_failed = 0
        with failures.open("a", buffering=1) as log:
            while time.monotonic() < deadline and (max_inputs is None or number < max_inputs):
                shared[:] = _COUNTERS.pack(number, num_read, num_refused, num_failed)
                result = outcome_of(reader, an_input(reader, name, seed, number), directory)
                num_read += result == "read"
                num_refused += result == "refused"
                if result not in ("read", "refused"):
                    num_failed += 1
                    log.write(f"{number} {result}\n")
                number += 1
            shared[:] = _COUNTERS.pack(number, num_read, num_refused, num_failed)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def outcome_of(reader: Reader, content: bytes, directory: Path) -> str:
    """What becomes of an input: "read", "refused", or a line that describes a failure."""
    before = _peak_bytes()
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS)
    try:
        reader.read(content, directory)
        result = "read"
    except UserError as error:
        message = str(error)
        is_line = message.isprintable() and 0 < len(message) <= _MAX_MESSAGE
        result = "refused" if is_line else f"a message of {len(message)} characters: {message[:200]!r}"
    except _TooSlow:
        result = f"it took longer than {MAX_SECONDS} s"
    except MemoryError:
        result = "it took all memory"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        result = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({place})"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if result in ("read", "refused") and (taken := _peak_bytes() - before) > MAX_BYTES:
        result = f"it took {taken >> 20} MiB for {len(content)} bytes"
    return result


def _too_slow(_: int, __: FrameType | None) -> None:
    raise _TooSlow


def _limit_memory(more: int) -> None:
    """Let this process have so many bytes of address space more than now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
