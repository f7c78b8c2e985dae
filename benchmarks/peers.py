"""Ways of doing the same, each in a process of its own that stays warm, so that they can take turns."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from benchmarks.live_query import cpu_seconds


def serve(ways: Mapping[str, Callable[[], None]]) -> None:
    """In the process: say that it is warm, then run the way that each line names, and print its times."""
    print(json.dumps([0, 0]), flush=True)
    for name in sys.stdin:
        started, processor = time.monotonic(), cpu_seconds()
        ways[name.strip()]()
        print(json.dumps([time.monotonic() - started, cpu_seconds() - processor]), flush=True)


class Peer:
    """A process that serves: `python -m MODULE --only ARGUMENTS` calls serve()."""

    def __init__(self, module: str, *arguments: object) -> None:
        """arguments: as texts, in a JSON list; returns when the process is warm"""
        given = json.dumps([str(argument) for argument in arguments])
        command = [sys.executable, "-m", module, "--only", given]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def run(self, way: str) -> tuple[float, float]:
        """Seconds, and seconds of processor time of the process and all below it."""
        assert self._process.stdin is not None
        print(way, flush=True, file=self._process.stdin)
        return self._answer()

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> tuple[float, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("["):
                seconds, processor = json.loads(line)
                return seconds, processor
        raise RuntimeError("the process has ended")
