"""Metric events of a stream of predictions: what a window counted, and its class shares, among those of the run whose
checkpoint predicts."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import printable
from longtail.spark_jobs.steps.prediction_windows import EndedWindow
from longtail.streaming.events.schema import RUN_NAME, PredictionEvent
from longtail.streaming.events.writer import EVENTS_DIRECTORY, write_prediction_events

if TYPE_CHECKING:
    from longtail.training.checkpoint_metadata import CheckpointMetadata

PHASE = "predict"
LONGEST_STREAM = 1000
"""Characters of a stream's name, the last ones of its path."""
MOST_FOR_INTERVALS = 2**17
"""Probabilities of a window from which intervals are computed too, within seconds."""


class PredictionEvents:
    """Writes the events of one stream.

    events_dir, run: where, and of which run they are
    output: the stream's table; seconds: the length of a window
    metadata: of the checkpoint, in the order of its outputs
    shares: (C,) class shares that the probabilities hold for; None if they hold for none
    """

    def __init__(
        self,
        events_dir: Location,
        run: str,
        *,
        output: Path,
        seconds: int,
        metadata: "CheckpointMetadata",
        shares: np.ndarray | None,
    ) -> None:
        self._events_dir, self._run, self._metadata = events_dir, run, metadata
        self._stream, self._seconds, self._shares = printable(str(output))[-LONGEST_STREAM:], seconds, shares

    def write(self, window: EndedWindow, probabilities: np.ndarray | None) -> None:
        """Write the events of a window, instead of those that were written before. probabilities: (N, C) of a sample"""
        num_classes, reference = len(self._metadata.class_names), window.reference
        unknown = [None] * num_classes
        novel = np.zeros(num_classes, np.int64) if reference is None else window.counts.novel(reference)
        shares, low, high = unknown, unknown, unknown
        if probabilities is not None and self._shares is not None:
            shares, low, high = self._estimated(probabilities, self._shares)
        columns = {
            "class_id": [*range(num_classes)],
            "class_name": self._metadata.class_names,
            "train_count": self._metadata.class_counts,
            "predicted": window.counts.counts.tolist(),
            "novel": novel.tolist(),
            "confidence_sum": window.counts.confidence_sums.tolist(),
            "confidence_squares": window.counts.confidence_squares.tolist(),
            "estimated_share": shares,
            "share_low": low,
            "share_high": high,
            "reference_predicted": unknown if reference is None else reference.counts.tolist(),
            "reference_novel": unknown if reference is None else reference.novel(reference).tolist(),
            "reference_confidence_sum": unknown if reference is None else reference.confidence_sums.tolist(),
            "reference_confidence_squares": unknown if reference is None else reference.confidence_squares.tolist(),
        }
        shared = {
            "run": self._run, "attempt": 1, "phase": PHASE, "emitted_at": time.time(), "stream": self._stream,
            "window_start": window.start.timestamp(), "window_seconds": self._seconds,
        }  # fmt: skip
        rows = zip(*columns.values(), strict=True)
        events = [PredictionEvent(**shared, **dict(zip(columns, row, strict=True))) for row in rows]
        write_prediction_events(self._events_dir, events)

    def _estimated(self, probabilities: np.ndarray, old_shares: np.ndarray) -> tuple[list, list, list]:
        """The class shares of a window and the ends of their intervals, by class."""
        from longtail.training.prior_shift import estimate_shares, estimated_with_intervals

        if probabilities.size > MOST_FOR_INTERVALS:
            shares = estimate_shares(probabilities, old_shares)
            return _within_bounds(shares), [None] * len(shares), [None] * len(shares)
        found = estimated_with_intervals(probabilities, old_shares, calibration=self._metadata.calibration)
        return _within_bounds(found.shares), _within_bounds(found.low), _within_bounds(found.high)


def place_of_events(checkpoint: Location) -> tuple[Location, str] | None:
    """The directory of events and the run of a checkpoint; None if it is in no directory of runs that has events."""
    run_dir = checkpoint.absolute().parent
    events_dir = run_dir.parent / EVENTS_DIRECTORY
    return (events_dir, run_dir.name) if RUN_NAME.fullmatch(run_dir.name) and events_dir.is_dir() else None


def _within_bounds(shares: np.ndarray) -> list[float]:
    return np.clip(shares.astype(float), 0.0, 1.0).tolist()
