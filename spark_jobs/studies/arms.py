"""Arms of an experiment: the trials with the same levels, summarised over the seeds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.trial_row import Row

REPORTED_SCORES = {
    "balanced_accuracy": "balanced accuracy",
    "many_shot_accuracy": "many-shot",
    "medium_shot_accuracy": "medium-shot",
    "few_shot_accuracy": "few-shot",
}
"""Columns of the results table that a report shows, with their headings."""


@dataclass(frozen=True)
class Arm:
    """The trials with the same levels, one per seed, as rows of the results table."""

    levels: dict[str, str]
    rows: list[Row]

    @property
    def name(self) -> str:
        """Axes and levels."""
        return ", ".join(f"{axis} {level}" for axis, level in self.levels.items())

    @property
    def label(self) -> str:
        """Levels."""
        return ", ".join(self.levels.values())

    def mean(self, score: str) -> float | None:
        """Mean over the seeds; None if no trial has the score."""
        values = self._values(score)
        return fmean(values) if values else None

    def deviation(self, score: str) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        values = self._values(score)
        return stdev(values) if len(values) > 1 else None

    def class_means(self, score: str) -> list[float | None]:
        """(C,) mean over the seeds with the class; None without one."""
        return [fmean(values) if values else None for values in self._class_values(score)]

    def class_deviations(self, score: str) -> list[float | None]:
        """(C,) sample standard deviation over the seeds with the class; None for fewer than two."""
        return [stdev(values) if len(values) > 1 else None for values in self._class_values(score)]

    def confusion_shares(self, bands: np.ndarray) -> np.ndarray:
        """(B, B) confusion over all seeds: share of the test images of band i predicted as classes of j; NaN without
        images.

        bands: (C,) the band of each class, from 0 to B - 1
        """
        num_bands = int(bands.max()) + 1
        counts = np.zeros((num_bands, num_bands))
        for cell in (cell for row in self.rows for cell in row["confusion"]):
            counts[bands[cell["target"]], bands[cell["predicted"]]] += cell["count"]
        with np.errstate(invalid="ignore"):
            return counts / counts.sum(axis=1, keepdims=True)

    def _values(self, score: str) -> list[float]:
        return [row[score] for row in self.rows if row[score] is not None]

    def _class_values(self, score: str) -> list[list[float]]:
        by_class = zip(*(row[score] for row in self.rows), strict=True)
        return [[value for value in values if value is not None] for values in by_class]


def arms_of(experiment: Experiment, rows: Sequence[Row]) -> list[Arm]:
    """The arms with a finished trial, in the experiment's order."""
    found = []
    for names in itertools.product(*experiment.axes.values()):
        levels = dict(zip(experiment.axes, names, strict=True))
        if matching := [row for row in rows if row["levels"] == levels]:
            found.append(Arm(levels, matching))
    return found


def published_order(experiment: Experiment, arms: Sequence[Arm]) -> tuple[int, int]:
    """Number of pairs of arms whose accuracies have the order of the paper's, and number of pairs with both figures."""
    errors = [(experiment.published_error(arm.levels), arm.mean("accuracy")) for arm in arms]
    known = [(error, accuracy) for error, accuracy in errors if error is not None and accuracy is not None]
    pairs = [(one, other) for one, other in itertools.combinations(known, 2) if one[0] != other[0]]
    agreeing = sum((one[0] < other[0]) == (one[1] > other[1]) and one[1] != other[1] for one, other in pairs)
    return agreeing, len(pairs)
