"""What a job of several Spark stages is doing, so that it is never silent for long."""

import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from longtail.spark_jobs.display.console import console

POLL_SECONDS = 0.5
SILENT_SECONDS = 30.0
"""Where the output is no terminal, what is being done is said on stderr every so often."""


class Activity:
    """Context manager; `now` names what is done from then on.

    A terminal shows it with a bar of the running stages' tasks and the time, and nothing of it stays. Without one,
    stderr gets a line every SILENT_SECONDS, so a quick job says nothing, and output for programs stays as it is.
    Where something else is drawn in the terminal already, as by `pipeline`, that stays.
    """

    def __init__(self, spark: SparkSession, doing: str) -> None:
        self._tracker = None if is_remote() else spark.sparkContext.statusTracker()
        self._doing = doing
        self._console = console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[tasks]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._line = self._progress.add_task(doing, total=None, tasks="")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def now(self, doing: str) -> None:
        """Say what is being done."""
        self._doing = doing
        self._progress.update(self._line, description=doing, tasks="", total=None)

    def __enter__(self) -> "Activity":
        with suppress(LiveError):
            self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.stop()

    def _follow(self) -> None:
        started = printed = time.monotonic()
        while not self._stop.wait(POLL_SECONDS):
            if self._console.is_terminal:
                done, total = self._tasks()
                self._progress.update(self._line, completed=done, total=total or None, tasks=_words(done, total))
            elif time.monotonic() - printed >= SILENT_SECONDS:
                printed = time.monotonic()
                parts = [self._doing, _words(*self._tasks()), f"{printed - started:.0f} s"]
                print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def _tasks(self) -> tuple[int, int]:
        """How many tasks of the running stages are done, and how many there are: none if that is unknown."""
        if self._tracker is None:
            return 0, 0
        stages = [self._tracker.getStageInfo(stage) for stage in self._tracker.getActiveStageIds()]
        done = sum(stage.numCompletedTasks for stage in stages if stage)
        return done, sum(stage.numTasks for stage in stages if stage)


def _words(done: int, total: int) -> str:
    return f"{done} of {total} tasks" if total else ""
