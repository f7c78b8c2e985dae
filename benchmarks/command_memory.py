"""Time and memory of a command of Longtail, as a user starts it: the driver's Python, the JVM, Python workers."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.live_query import process_tree

SAMPLE_SECONDS = 0.5
KINDS = ("driver", "JVM", "worker")


class PeakMemory:
    """By process id of a command, its kind and the most memory that it had (VmHWM), in MiB."""

    def __init__(self, root: int) -> None:
        self._root, self._found = root, dict[int, tuple[str, float]]()

    def look(self) -> None:
        for pid in process_tree(self._root):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{pid}/status").read_text()
                kind = "driver" if pid == self._root else "JVM" if "Name:\tjava" in status else "worker"
                if peak := re.search(r"VmHWM:\s+(\d+) kB", status):
                    self._found[pid] = kind, int(peak[1]) / 1024

    def largest(self) -> list[float]:
        """That of the largest process of each of KINDS; 0 without any."""
        return [max((mib for kind, mib in self._found.values() if kind == one), default=0.0) for one in KINDS]


def seconds_and_memory(*arguments: object) -> tuple[float, list[float]]:
    """Run `longtail ARGUMENTS`. Raises RuntimeError if it fails."""
    command = [Path(sys.executable).parent / "longtail", *arguments]
    started = time.monotonic()
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:
        memory = PeakMemory(process.pid)
        while process.poll() is None:
            memory.look()
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"longtail {arguments[0]} ended with {process.returncode}")
    return time.monotonic() - started, memory.largest()


def shown(sizes: Sequence[float]) -> str:
    """The columns of KINDS."""
    return "".join(f"{size:12.0f}" for size in sizes)
