"""Writes metric events as files that appear atomically: those of an epoch as columns, all others as JSON lines.

    events/RUN-attempt001-epoch00003.parquet             class, confusion, step and run events of an epoch
    events/RUN-attempt001-epoch00003-step000120.jsonl    one step event of an epoch that is still running
    events/RUN-attempt001-started.jsonl, -finished.jsonl, -failed.jsonl, -interrupted.jsonl
    events/RUN-pseudo_labels-round001-....jsonl
    events/RUN-predictions-....parquet                   a window of a stream of predictions

The file of an epoch repeats its step events, and the files of these are removed, so that the directory holds one file
per epoch however long it is watched. Readers deduplicate events, and ignore files that vanish while they list them.
"""

import json
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from longtail.conf.base.files import write_text_atomically
from longtail.conf.base.locations import Location
from longtail.streaming.events.archives import archived_progress
from longtail.streaming.events.columns import write_event_columns
from longtail.streaming.events.files import COLUMNS, LINES, listed
from longtail.streaming.events.schema import (
    END_STATES,
    STARTED,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    RunEvent,
    StepEvent,
    event_line,
)

EVENTS_DIRECTORY = "events"


class EventWriter:
    """Writes the events of one attempt of one run into the events directory that all runs share; rank 0 has it."""

    def __init__(self, events_dir: Location, *, run: str, attempt: int) -> None:
        self._events_dir, self._run, self._attempt = events_dir, run, attempt
        self._prefix = events_dir / f"{run}-attempt{attempt:03d}"
        self._steps: list[StepEvent] = []
        self._step_files: list[Location] = []

    def write_epoch(self, epoch: int, events: Sequence[Event]) -> None:
        """Write the events of a finished epoch and, again, its step events; remove the files of the latter."""
        write_event_columns(self._file(f"epoch{epoch:05d}", COLUMNS), [*events, *self._steps])
        for file in self._step_files:
            file.unlink(missing_ok=True)
        self._steps, self._step_files = [], []

    def write_step(self, event: StepEvent) -> None:
        """Write a step event of an epoch that is still running."""
        file = self._file(f"epoch{event.epoch:05d}-step{event.step:06d}")
        _write(file, [event])
        self._steps.append(event)
        self._step_files.append(file)

    def write_run(self, event: RunEvent) -> None:
        """Write an event about the start or the end of the attempt."""
        _write(self._file(event.state), [event])

    def has_written(self, *states: str) -> bool:
        """Whether a run event with one of these states exists for the attempt, written by any process."""
        return any(self._file(state).exists() for state in states) or any(
            row["state"] in states for row in self._archived()
        )

    def last_epoch(self) -> int:
        """The last epoch whose events exist for the attempt; without any, the epoch that it started from."""
        name = re.compile(rf"{re.escape(self._prefix.name)}-epoch([0-9]+)\.")
        epochs = [int(match[1]) for match in map(name.match, listed(self._events_dir)) if match]
        with suppress(FileNotFoundError):
            epochs.append(json.loads(self._file(STARTED).read_text(encoding="utf-8"))["epoch"])
        return max([*epochs, *(row["epoch"] for row in self._archived() if row["epoch"] is not None)])

    def _archived(self) -> list[dict[str, Any]]:
        return [row for row in archived_progress(self._events_dir, self._run) if row["attempt"] == self._attempt]

    def _file(self, suffix: str, extension: str = LINES) -> Location:
        return self._prefix.with_name(f"{self._prefix.name}-{suffix}{extension}")


def attempts_with_events(events_dir: Location, run: str) -> set[int]:
    """Numbers of the attempts of a run that have event files, archived ones included."""
    name = re.compile(rf"{re.escape(run)}-attempt([0-9]+)-(epoch|{'|'.join((STARTED, *END_STATES))})")
    found = map(name.match, listed(events_dir))
    return {int(match[1]) for match in found if match} | {row["attempt"] for row in archived_progress(events_dir, run)}


def write_pseudo_label_events(events_dir: Location, events: Sequence[PseudoLabelEvent]) -> None:
    """Write the events of one labelling into a file of its own: another labelling by the same run replaces nothing."""
    first = events[0]
    name = f"{first.run}-pseudo_labels-round{first.round:03d}-{uuid.uuid4().hex[:8]}{LINES}"
    _write(events_dir / name, events)


def write_prediction_events(events_dir: Location, events: Sequence[PredictionEvent]) -> None:
    """Write the events of one window into a file of its own."""
    write_event_columns(events_dir / f"{events[0].run}-predictions-{uuid.uuid4().hex}{COLUMNS}", events)


def _write(file: Location, events: Sequence[Event]) -> None:
    write_text_atomically(file, "".join(f"{event_line(event)}\n" for event in events))
