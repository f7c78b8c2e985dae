"""Writing metric events: a file of JSON lines an epoch, whole or not there."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from conf.files import write_text_atomically
from streaming.events import ClassEvent

EVENTS_DIRECTORY = "events"


class EventWriter:
    """Writes the events of one attempt of one run into the events directory that all runs share."""

    def __init__(self, events_dir: Path, *, run: str, attempt: int) -> None:
        self._prefix = events_dir / f"{run}-attempt{attempt:03d}"

    def write_epoch(self, epoch: int, events: Sequence[ClassEvent]) -> None:
        lines = "".join(f"{json.dumps(dataclasses.asdict(event))}\n" for event in events)
        write_text_atomically(self._prefix.with_name(f"{self._prefix.name}-epoch{epoch:05d}.jsonl"), lines)
