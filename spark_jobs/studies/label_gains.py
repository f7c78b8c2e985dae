"""What pseudo-labels gain by how many of them are right: the trials with them, paired with those on labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.comparisons import p_value
from longtail.spark_jobs.studies.trial_row import Row


@dataclass(frozen=True)
class LabelGain:
    """A trial with pseudo-labels.

    setting: its levels of the axes in which it agrees with its partner
    correct: share of right pseudo-labels
    gain: balanced accuracy above that of its partner, the trial of its seed at the first level of the other axis
    """

    setting: tuple[str, ...]
    seed: int
    correct: float
    gain: float


@dataclass(frozen=True)
class GainFit:
    """The least-squares line gain = intercept + slope * correct.

    p_value: of the seeds' slopes against zero (Student's t-test); None for one seed
    break_even: share of right pseudo-labels at which the line is zero; None outside the measured shares
    """

    slope: float
    intercept: float
    p_value: float | None
    break_even: float | None


def label_gains(experiment: Experiment, rows: Sequence[Row]) -> list[LabelGain]:
    """One per trial whose pseudo-labels can be judged, and that has a partner on labels alone."""
    by_trial = {(*row["levels"].values(), row["seed"]): row for row in rows}
    found = []
    for row in rows:
        if (correct := row["pseudo_label_accuracy"]) is None:
            continue
        for axis, levels in experiment.axes.items():
            partner = by_trial.get((*{**row["levels"], axis: next(iter(levels))}.values(), row["seed"]))
            if partner is None or partner["pseudo_label_accuracy"] is not None:
                continue
            setting = tuple(level for name, level in row["levels"].items() if name != axis)
            gain = row["balanced_accuracy"] - partner["balanced_accuracy"]
            found.append(LabelGain(setting, row["seed"], correct, gain))
            break
    return found


def fit_gains(gains: Sequence[LabelGain]) -> GainFit | None:
    """The line through the gains; None for fewer than three different shares of right labels."""
    if len({gain.correct for gain in gains}) < 3:
        return None
    slope, intercept = _line(gains)
    by_seed: dict[int, list[LabelGain]] = {}
    for gain in gains:
        by_seed.setdefault(gain.seed, []).append(gain)
    slopes = [_line(of_seed)[0] for of_seed in by_seed.values() if len({gain.correct for gain in of_seed}) > 1]
    zero = -intercept / slope if slope else None
    lowest, highest = min(gain.correct for gain in gains), max(gain.correct for gain in gains)
    return GainFit(
        slope,
        intercept,
        p_value=p_value(slopes) if len(slopes) > 1 else None,
        break_even=zero if zero is not None and lowest <= zero <= highest else None,
    )


def gain_sentence(name: str, fit: GainFit) -> str:
    """The line in words. name: of the setting"""
    sure = "one seed" if fit.p_value is None else f"p = {fit.p_value:.3f} over the seeds"
    text = f"{name}: ten points more right pseudo-labels go with {10 * fit.slope:+.1f} points of accuracy ({sure})"
    if fit.break_even is None:
        return f"{text}; within the measured shares the line does not cross zero."
    return f"{text}; labels alone are as good at {100 * fit.break_even:.0f} % right."


def by_setting(gains: Sequence[LabelGain]) -> dict[str, list[LabelGain]]:
    """The gains by the name of their setting."""
    found: dict[str, list[LabelGain]] = {}
    for gain in gains:
        found.setdefault(", ".join(gain.setting) or "all trials", []).append(gain)
    return found


def _line(gains: Sequence[LabelGain]) -> tuple[float, float]:
    slope, intercept = np.polyfit([gain.correct for gain in gains], [gain.gain for gain in gains], deg=1)
    return float(slope), float(intercept)
