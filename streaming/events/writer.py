"""Writing metric events: files of JSON lines, each whole or not there.

    events/RUN-attempt001-epoch00003.jsonl               class, confusion, step and run events of an epoch
    events/RUN-attempt001-epoch00003-step000120.jsonl    one step event inside an epoch that still runs
    events/RUN-attempt001-started.jsonl, -failed.jsonl, -finished.jsonl
    events/RUN-pseudo_labels-round001-....jsonl

The epoch's file repeats its step events, and their own files go: a directory
that is watched for days has a file an epoch. Readers count repetitions once, and
pass over a file that went while they looked.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path

from longtail.conf.base.files import write_text_atomically
from longtail.streaming.events.schema import Event, PseudoLabelEvent, RunEvent, StepEvent, event_line

EVENTS_DIRECTORY = "events"


class EventWriter:
    """Writes the events of one attempt of one run into the events directory that all runs share.

    rank: the writer's; every rank may write, each into files of its own
    """

    def __init__(self, events_dir: Path, *, run: str, attempt: int, rank: int = 0) -> None:
        of_rank = f"-rank{rank:04d}" if rank else ""
        self._prefix = events_dir / f"{run}-attempt{attempt:03d}{of_rank}"
        self._steps: list[StepEvent] = []
        self._step_files: list[Path] = []

    def write_epoch(self, epoch: int, events: Sequence[Event]) -> None:
        """All that is said after an epoch, and its step events again."""
        _write(self._file(f"epoch{epoch:05d}"), [*events, *self._steps])
        for file in self._step_files:
            file.unlink(missing_ok=True)
        self._steps, self._step_files = [], []

    def write_step(self, event: StepEvent) -> None:
        file = self._file(f"epoch{event.epoch:05d}-step{event.step:06d}")
        _write(file, [event])
        self._steps.append(event)
        self._step_files.append(file)

    def write_run(self, event: RunEvent) -> None:
        """Started, finished or failed."""
        _write(self._file(event.state), [event])

    def has_written(self, state: str) -> bool:
        """Whether this attempt of the run has said so, by whatever process."""
        return self._file(state).exists()

    def _file(self, what: str) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}-{what}.jsonl")


def write_pseudo_label_events(events_dir: Path, events: Sequence[PseudoLabelEvent]) -> None:
    """The events of one labelling, a file of its own: another labelling by the same run replaces nothing."""
    first = events[0]
    name = f"{first.run}-pseudo_labels-round{first.round:03d}-{uuid.uuid4().hex[:8]}.jsonl"
    _write(events_dir / name, events)


def _write(file: Path, events: Sequence[Event]) -> None:
    write_text_atomically(file, "".join(f"{event_line(event)}\n" for event in events))
