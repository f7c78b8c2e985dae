"""Metric events of a run (streaming/events/schema.py), built from the training loop's reports.

This module does not import torch, as a Spark driver writes failure events too.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from longtail.conf.base.shown_text import one_line
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN
from longtail.streaming.events.schema import (
    END_STATES,
    EPOCH_DONE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    STARTED,
    ClassEvent,
    ConfusionEvent,
    Event,
    RunEvent,
    StepEvent,
)
from longtail.streaming.events.writer import EventWriter

if TYPE_CHECKING:
    from longtail.training.loop import EpochReport
    from longtail.training.metrics import Predictions
    from longtail.training.step_watch import StepReport
    from longtail.training.training_data import TrainingData


class RunEvents:
    """Writes the metric events of one attempt of a run; used by rank 0."""

    def __init__(
        self, writer: EventWriter, data: "TrainingData", options: RunOptions, *, run: str, attempt: int
    ) -> None:
        self._writer, self._data, self._options = writer, data, options
        self._run_fields = {"run": run, "attempt": attempt, "phase": options.phase}

    def started(self, *, epoch: int) -> None:
        """Report the start of the attempt; epoch: number of epochs already finished."""
        self._writer.write_run(self._run_event(STARTED, epoch))

    def finished(self) -> None:
        """Report that all epochs are finished and the result is written."""
        self._writer.write_run(self._run_event(FINISHED, self._options.epochs))

    def steps(self, report: "StepReport") -> None:
        """Report progress within an epoch."""
        speed = report.images_per_second * self._options.world_size
        values = {**vars(report), "images_per_second": speed}
        self._writer.write_step(StepEvent(**self._run_fields, **values, emitted_at=time.time()))

    def epoch(self, report: "EpochReport") -> None:
        """Report the measurements of an epoch."""
        now = time.time()
        events = [
            *self._class_events(report, now),
            *self._confusion_events(report, now),
            self._run_event(EPOCH_DONE, report.epoch),
        ]
        self._writer.write_epoch(report.epoch, events)

    def _run_event(self, state: str, epoch: int) -> RunEvent:
        return run_event(state, self._options, **self._run_fields, epoch=epoch)

    def _class_events(self, report: "EpochReport", now: float) -> list[Event]:
        data = self._data
        pseudo_label_counts = data.pseudo_label_counts or [0] * data.num_classes
        return [
            ClassEvent(
                **self._run_fields,
                epoch=report.epoch,
                num_epochs=self._options.epochs,
                split=split,
                class_id=class_id,
                class_name=data.class_names[class_id],
                shot_group=data.shot_groups[class_id],
                train_count=data.class_counts[class_id],
                pseudo_label_count=pseudo_label_counts[class_id],
                support=int(totals["support"][class_id]),
                correct=int(totals["correct"][class_id]),
                predicted=int(totals["predicted"][class_id]),
                loss_sum=totals["loss_sum"][class_id],
                confidence_sum=totals["confidence_sum"][class_id],
                epoch_seconds=report.epoch_seconds,
                images_per_second=report.images_per_second,
                learning_rate=report.learning_rate,
                positive_rank=report.positive_rank if split == TRAIN else None,
                num_candidates=report.num_candidates if split == TRAIN else None,
                emitted_at=now,
            )
            for split, totals in report.all_totals.items()
            for class_id in range(data.num_classes)
        ]

    def _confusion_events(self, report: "EpochReport", now: float) -> list[Event]:
        return [
            ConfusionEvent(
                **self._run_fields,
                epoch=report.epoch,
                split=split,
                true_class=target,
                predicted_class=predicted,
                count=count,
                emitted_at=now,
            )
            for split, predictions in report.predictions.items()
            for target, predicted, count in _cells(predictions, self._data.num_classes)
        ]


def _cells(predictions: "Predictions", num_classes: int) -> Iterator[tuple[int, int, int]]:
    """Target, predicted class and number of images of each cell of the confusion matrix that is not zero."""
    cells = predictions.confusion(num_classes)
    return zip(cells["target"], cells["predicted"], cells["count"], strict=True)


def run_event(
    state: str, options: RunOptions, *, run: str, attempt: int, phase: str, epoch: int, message: str = ""
) -> RunEvent:
    """Create an event about the state of a run; see RunEvent for the states."""
    return RunEvent(
        run=run,
        attempt=attempt,
        phase=phase,
        state=state,
        epoch=epoch,
        num_epochs=options.epochs,
        configuration=json.dumps(options.recorded(), allow_nan=False),
        message=one_line(message),
        emitted_at=time.time(),
    )


@contextmanager
def report_failure(
    writer: EventWriter,
    options: RunOptions,
    *,
    run: str,
    attempt: int,
    describe: Callable[[BaseException], str],
    is_interruption: Callable[[BaseException], bool] = lambda error: False,
) -> Iterator[None]:
    """Write an event, once, if an exception leaves the block and the run had started: failed or interrupted.

    describe: converts the exception to one line of text
    is_interruption: whether an exception other than KeyboardInterrupt (Ctrl-C, SIGTERM) means that the user stopped it
    """
    try:
        yield
    except BaseException as error:
        is_failure = not (isinstance(error, KeyboardInterrupt) or is_interruption(error))
        # A rank may have reported a failure because the driver was interrupted.
        said_already = END_STATES if is_failure else (INTERRUPTED, FINISHED)
        if writer.has_written(STARTED) and not writer.has_written(*said_already):
            event = run_event(
                FAILED if is_failure else INTERRUPTED,
                options,
                run=run,
                attempt=attempt,
                phase=options.phase,
                epoch=writer.last_epoch(),
                message=describe(error) if is_failure else "",
            )
            writer.write_run(event)
        raise
