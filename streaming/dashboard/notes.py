"""What the page knows of runs beside their tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from longtail.streaming.tables.descriptions import RunDescription


@dataclass(frozen=True)
class RunNotes:
    """Notes by run.

    descriptions: what users say of runs
    damage: why some tables of a run could not be read
    progress: how far the live query is with the event files that waited for it; None if none wait
    deleted_at: when a run of this name was deleted, which a new one does not inherit from
    has_logs: whether the page can show the logs of runs
    gives_checkpoints: whether checkpoints of runs can be downloaded from the page
    reports: names of the experiments whose reports have the run, and the addresses of these on the page
    """

    descriptions: Mapping[str, RunDescription] = field(default_factory=dict)
    damage: Mapping[str, str] = field(default_factory=dict)
    progress: str | None = None
    deleted_at: Mapping[str, float] = field(default_factory=dict)
    has_logs: bool = False
    gives_checkpoints: bool = False
    reports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def description(self, run: str) -> RunDescription:
        """The description of a run, the empty one if there is none."""
        return self.descriptions.get(run, RunDescription())


NO_NOTES = RunNotes()
