"""Progress of one training on the driver, from the metric events that rank 0 writes after each epoch."""

import threading
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longtail.conf.base.locations import Location
from longtail.conf.base.store_path import StorePath
from longtail.conf.vocabulary import TRAIN
from longtail.spark_jobs.display.console import console
from longtail.streaming.event_files.reading import read_event_files
from longtail.streaming.events.files import COLUMNS
from longtail.streaming.events.schema import ClassEvent

POLL_SECONDS = 0.5
POLL_SECONDS_OF_STORES = 5.0


class EpochProgress:
    """Context manager that shows a progress bar in a terminal, otherwise one line per epoch, from its own thread."""

    def __init__(self, events_dir: Location, *, run: str, attempt: int, num_epochs: int) -> None:
        self._events_dir = events_dir
        self._pattern = f"{run}-attempt{attempt:03d}-epoch?????{COLUMNS}"
        self._num_epochs = num_epochs
        self._seconds = POLL_SECONDS_OF_STORES if isinstance(events_dir, StorePath) else POLL_SECONDS
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._console = console()
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
        for name in sorted({file.name for file in self._events_dir.glob(self._pattern)} - self._seen):
            self._seen.add(name)
            # None if the directory was removed meanwhile, which the training tolerates.
            for piece in read_event_files(self._events_dir, [name]):
                training = piece.events[ClassEvent.kind]
                training = training.filter(pc.equal(training["split"], TRAIN))
                self._show(training)

    def _show(self, training: pa.Table) -> None:
        """training: class events of the training images of an epoch"""
        epoch, speed = training["epoch"][0].as_py(), training["images_per_second"][0].as_py()
        loss = pc.sum(training["loss_sum"]).as_py() / pc.sum(training["support"]).as_py()
        measure = f"loss {loss:.4f}, {speed:.0f} images/s"
        self._progress.update(self._bar, completed=epoch, measure=measure)
        if not self._console.is_terminal:
            self._console.print(f"epoch {epoch}/{self._num_epochs}: {measure}", soft_wrap=True)
