"""Progress of one training on the driver, from the metric events that rank 0 writes after and within each epoch."""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.conf.vocabulary import TRAIN
from longtail.spark_jobs.display.console import console
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import COLUMNS, LINES
from longtail.streaming.events.schema import ClassEvent

POLL_SECONDS = 0.5
POLL_SECONDS_OF_STORES = 5.0


class EpochProgress:
    """Context manager that shows, from its own thread, a progress bar in a terminal, otherwise one line per epoch;
    in a notebook a line that changes.

    The bar moves within an epoch too, as often as there are step events.
    """

    def __init__(self, events_dir: Location, *, run: str, attempt: int, num_epochs: int) -> None:
        self._events_dir = events_dir
        self._pattern = f"{run}-attempt{attempt:03d}-epoch*"
        self._num_epochs = num_epochs
        self._seconds = POLL_SECONDS_OF_STORES if isinstance(events_dir, StorePath) else POLL_SECONDS
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._console = console()
        self._cell: Any = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measure]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("epoch", total=num_epochs, measure="starting")

    def __enter__(self) -> "EpochProgress":
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show_new()
        self._progress.stop()

    def _follow(self) -> None:
        while not self._stop.wait(self._seconds):
            self._show_new()

    def _show_new(self) -> None:
        names = {file.name for file in self._events_dir.glob(self._pattern)} - self._seen
        for name in sorted(name for name in names if name.endswith(COLUMNS)):
            self._seen.add(name)
            # None if the directory was removed meanwhile, which the training tolerates.
            for piece in read_event_files(self._events_dir, [name]):
                training = piece.events[ClassEvent.kind]
                training = training.filter(pc.equal(training["split"], TRAIN))
                self._show(training)
        within = sorted(name for name in names if name.endswith(LINES))
        if within and self._console.is_terminal:
            self._show_step(self._events_dir / within[-1])

    def _show_step(self, file: Location) -> None:
        """Move the bar within an epoch. file: the newest of a step event"""
        # The file goes when its epoch is over.
        with suppress(OSError, UserError, ValueError, LookupError, TypeError):
            event = json.loads(file.read_text(encoding="utf-8"))
            done = event["epoch"] - 1 + event["step"] / event["num_steps"]
            if done > self._progress.tasks[self._bar].completed:
                self._progress.update(self._bar, completed=done, measure=_measure(event["loss"], event))

    def _show(self, training: pa.Table) -> None:
        """training: class events of the training images of an epoch"""
        first = training.slice(length=1).to_pylist()[0]
        loss = pc.sum(training["loss_sum"]).as_py() / pc.sum(training["support"]).as_py()
        measure = _measure(loss, first)
        self._progress.update(self._bar, completed=first["epoch"], measure=measure)
        if not self._console.is_terminal:
            self._print(f"epoch {first['epoch']}/{self._num_epochs}: {measure}")

    def _print(self, line: str) -> None:
        """Print a line; in a notebook, in place of the last one."""
        if not self._console.is_jupyter:
            self._console.print(line, soft_wrap=True)
            return
        from IPython.display import display  # the notebook's

        shown = {"text/plain": line}
        if self._cell is None:
            self._cell = display(shown, raw=True, display_id=True)
        else:
            self._cell.update(shown, raw=True)


def _measure(loss: float, event: Mapping[str, Any]) -> str:
    return f"loss {loss:.4f}, {event['images_per_second']:.0f} images/s"
