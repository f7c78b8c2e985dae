"""What a rule that raises alerts is: its thresholds, and its conditions on the result tables of a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

Row = dict[str, Any]


@dataclass(frozen=True)
class AlertTables:
    """The result tables of one run that rules look at; of class_epochs and steps at least the latest epoch."""

    class_epochs: pa.Table
    epochs: pa.Table
    steps: pa.Table
    unlabeled_estimates: pa.Table
    predictions: pa.Table


class Found(NamedTuple):
    """An alert that a rule has found."""

    split: str
    epoch: int
    message: str


class Rule(BaseModel):
    """Thresholds of a rule, and how it finds alerts: check_epoch, find, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def num_earlier_epochs(self) -> int:
        """How many epochs before the latest one check_epoch looks at."""
        return 0

    def check_epoch(self, history: Sequence[Row]) -> str | None:
        """The message of an alert about the latest epoch of a split.

        history: its rows of `epochs`, the latest one last, at least num_earlier_epochs before it if there are so many
        """
        return None

    def find(self, tables: AlertTables) -> Iterable[Found]:
        """Alerts from any of the tables."""
        return ()
