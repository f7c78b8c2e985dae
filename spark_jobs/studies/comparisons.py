"""What the trials of an experiment say: means over seeds, and paired differences between levels.

Two levels of an axis are compared pair by pair: trials that agree in all other
axes and in the seed, so that what the seed does to both cancels out. Pairs of one
seed are not independent of each other (they share first weights, a pre-training or a
labeller), so a difference must stand out among the means of the seeds as well.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from scipy.stats import t as student

from longtail.conf.experiment import Experiment

Row = dict[str, Any]

SCORES = {
    "balanced_accuracy": "balanced accuracy",
    "many_shot_accuracy": "many-shot",
    "medium_shot_accuracy": "medium-shot",
    "few_shot_accuracy": "few-shot",
}
"""What a report shows of a trial: the column of the results table, and how it is called."""

CONFIDENCE = 0.95
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Arm:
    """The trials of one combination of levels, one a seed."""

    levels: dict[str, str]
    rows: list[Row]

    @property
    def name(self) -> str:
        return ", ".join(f"{axis} {level}" for axis, level in self.levels.items())

    @property
    def label(self) -> str:
        return ", ".join(self.levels.values())

    def mean(self, score: str) -> float | None:
        """Over the seeds; None if no trial has the score."""
        values = self._values(score)
        return fmean(values) if values else None

    def deviation(self, score: str) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        values = self._values(score)
        return stdev(values) if len(values) > 1 else None

    def class_means(self, score: str) -> list[float | None]:
        """By class, mean over the seeds."""
        by_class = zip(*(row[score] for row in self.rows), strict=True)
        present = ([value for value in values if value is not None] for values in by_class)
        return [fmean(values) if values else None for values in present]

    def class_deviations(self, score: str) -> list[float | None]:
        """By class, sample standard deviation over the seeds; None for fewer than two."""
        by_class = zip(*(row[score] for row in self.rows), strict=True)
        present = ([value for value in values if value is not None] for values in by_class)
        return [stdev(values) if len(values) > 1 else None for values in present]

    def confusion_shares(self) -> np.ndarray:
        """(C, C): of the test images of class i, the share predicted as class j, over all seeds; NaN without images."""
        num_classes = len(self.rows[0]["class_names"])
        counts = np.zeros((num_classes, num_classes))
        for cell in (cell for row in self.rows for cell in row["confusion"]):
            counts[cell["target"], cell["predicted"]] += cell["count"]
        with np.errstate(invalid="ignore"):
            return counts / counts.sum(axis=1, keepdims=True)

    def _values(self, score: str) -> list[float]:
        return [row[score] for row in self.rows if row[score] is not None]


@dataclass(frozen=True)
class Comparison:
    """A level of an axis against another: differences of a score, pair by pair.

    by_setting: by the levels of the other axes, mean difference over the seeds
    low, high: bootstrap interval (BCa) of the mean over all pairs; None for fewer than three pairs or equal ones
    p_value: of Student's two-sided t-test that the mean is zero, over the pairs or over the means of the seeds, the
    larger one; None for one seed
    """

    axis: str
    level: str
    against: str
    score: str
    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    num_pairs: int
    num_seeds: int
    by_setting: dict[tuple[str, ...], float]

    @property
    def is_supported(self) -> bool:
        """Whether the pairs show that the mean is not zero.

        Both must say so: the bootstrap of few pairs is too sure (of normal differences, its 95 % intervals hold the
        mean 73 times in 100 for 3 pairs, 86 for 5, 91 for 18), and the t-test takes the differences for normal ones.
        """
        if self.low is None or self.high is None or self.p_value is None:
            return False
        return not self.low <= 0 <= self.high and self.p_value < 1 - CONFIDENCE


def arms(experiment: Experiment, rows: Sequence[Row]) -> list[Arm]:
    """In the experiment's order; combinations without a finished trial are left out."""
    found = []
    for names in itertools.product(*experiment.axes.values()):
        levels = dict(zip(experiment.axes, names, strict=True))
        if of_levels := [row for row in rows if row["levels"] == levels]:
            found.append(Arm(levels, of_levels))
    return found


def compare(experiment: Experiment, rows: Sequence[Row], *, axis: str, level: str, score: str) -> Comparison | None:
    """The level against the axis's first; None without a pair of trials that both have the score."""
    against = next(iter(experiment.axes[axis]))
    values = {(*row["levels"].items(), row["seed"]): row[score] for row in rows if row[score] is not None}
    pairs: dict[tuple[str, ...], list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        other = {**row["levels"], axis: against}
        base = values.get((*other.items(), row["seed"]))
        if row["levels"][axis] != level or row[score] is None or base is None:
            continue
        setting = tuple(name for of_axis, name in row["levels"].items() if of_axis != axis)
        for group in (pairs.setdefault(setting, []), by_seed.setdefault(row["seed"], [])):
            group.append(row[score] - base)
    differences = [difference for of_setting in pairs.values() for difference in of_setting]
    if not differences:
        return None
    low, high = mean_interval(differences)
    return Comparison(
        axis=axis,
        level=level,
        against=against,
        score=score,
        mean=fmean(differences),
        low=low,
        high=high,
        p_value=max(p_value(differences), p_value(list(map(fmean, by_seed.values())))) if len(by_seed) > 1 else None,
        num_pairs=len(differences),
        num_seeds=len(by_seed),
        by_setting={setting: fmean(of_setting) for setting, of_setting in pairs.items()},
    )


def p_value(values: Sequence[float]) -> float:
    """Student's two-sided t-test, of two values or more, that they are drawn from a normal law of mean zero."""
    # scipy's own warns on values that are alike or nearly so, as the means of few test images are; stdev is exact.
    mean, deviation = fmean(values), stdev(values)
    if deviation == 0:
        return float(mean == 0)
    return float(2 * student.sf(abs(mean) / deviation * math.sqrt(len(values)), len(values) - 1))


def mean_interval(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """Bootstrap interval (bias-corrected and accelerated, Efron 1987) of the mean, the same at every call."""
    if len(differences) < 3 or len(set(differences)) == 1:
        return None, None
    found = bootstrap(
        (differences,), np.mean, confidence_level=CONFIDENCE, n_resamples=_RESAMPLES, method="BCa", rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


def published_order(experiment: Experiment, found: Sequence[Arm]) -> tuple[int, int]:
    """Of the pairs of arms that the paper has both figures of: how many have its order here, and how many there are."""
    errors = [(experiment.published_error(arm.levels), arm.mean("accuracy")) for arm in found]
    known = [(error, accuracy) for error, accuracy in errors if error is not None and accuracy is not None]
    pairs = [(one, other) for one, other in itertools.combinations(known, 2) if one[0] != other[0]]
    agreeing = sum((one[0] < other[0]) == (one[1] > other[1]) and one[1] != other[1] for one, other in pairs)
    return agreeing, len(pairs)
