"""What pseudo-labels gain by how many of them are right: the trials with them, paired with those on labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from longtail.conf.experiment import Experiment
from longtail.data.longtail import head_half
from longtail.spark_jobs.studies.line_fit import LineFit, fit_line
from longtail.spark_jobs.studies.threshold_bias import measured_bias, predicted_bias
from longtail.spark_jobs.studies.trial_row import Row


@dataclass(frozen=True)
class LabelGain:
    """A trial with pseudo-labels.

    setting: its levels of the axes in which it agrees with its partner
    level: its level of the other axis
    correct: share of right pseudo-labels
    gain: balanced accuracy above that of its partner, the trial of its seed at the first level of the other axis
    predicted, measured, before: thresholds between the halves of the classes (studies/threshold_bias.py), by theorem 1,
        of the trial and of its partner; None where they are not known
    """

    setting: tuple[str, ...]
    level: str
    seed: int
    correct: float
    gain: float
    predicted: float | None = None
    measured: float | None = None
    before: float | None = None


def label_gains(experiment: Experiment, rows: Sequence[Row]) -> list[LabelGain]:
    """One per trial whose pseudo-labels can be judged, and that has a partner on labels alone."""
    by_trial = {(*row["levels"].values(), row["seed"]): row for row in rows}
    found = []
    for row in rows:
        if row["pseudo_label_accuracy"] is None:
            continue
        for axis, levels in experiment.axes.items():
            partner = by_trial.get((*{**row["levels"], axis: next(iter(levels))}.values(), row["seed"]))
            if partner is not None and partner["pseudo_label_accuracy"] is None:
                found.append(_gain(row, partner, axis))
                break
    return found


def _gain(row: Row, partner: Row, axis: str) -> LabelGain:
    return LabelGain(
        setting=tuple(level for name, level in row["levels"].items() if name != axis),
        level=row["levels"][axis],
        seed=row["seed"],
        correct=row["pseudo_label_accuracy"],
        gain=row["balanced_accuracy"] - partner["balanced_accuracy"],
        predicted=predicted_bias(row),
        measured=_threshold(row, partner),
        before=_threshold(partner, partner),
    )


def _threshold(row: Row, on_labels: Row) -> float | None:
    """on_labels: a trial whose class counts are of labelled images alone"""
    if row["confusion"] is None or on_labels["class_counts"] is None:  # rebuilt from a report
        return None
    return measured_bias(row["confusion"], head_half(on_labels["class_counts"]))


def fit_gains(gains: Sequence[LabelGain]) -> LineFit | None:
    """The line gain = intercept + slope * correct; None for fewer than three different shares of right labels."""
    return fit_line([(gain.seed, gain.correct, gain.gain) for gain in gains])


def fit_thresholds(gains: Sequence[LabelGain]) -> LineFit | None:
    """The line measured = intercept + slope * predicted; None as in fit_gains."""
    return fit_line(
        [
            (gain.seed, gain.predicted, gain.measured)
            for gain in gains
            if gain.predicted is not None and gain.measured is not None
        ]
    )


def gain_sentence(name: str, fit: LineFit) -> str:
    """The line of fit_gains in words. name: of the setting"""
    text = (
        f"{name}: ten points more right pseudo-labels go with {10 * fit.slope:+.1f} points of accuracy ({_sure(fit)})"
    )
    if fit.zero is None:
        return f"{text}; within the measured shares the line does not cross zero."
    return f"{text}; labels alone are as good at {100 * fit.zero:.0f} % right."


def threshold_sentence(name: str, fit: LineFit) -> str:
    """The line of fit_thresholds in words. name: of the setting"""
    return (
        f"{name}: 0.1 more of p - q goes with a threshold {0.1 * fit.slope:+.2f} further ({_sure(fit)}); by theorem 1 "
        f"it would be +0.10."
    )


def _sure(fit: LineFit) -> str:
    return "one seed" if fit.p_value is None else f"p = {fit.p_value:.3f} over the seeds"


def by_setting(gains: Sequence[LabelGain]) -> dict[str, list[LabelGain]]:
    """The gains by the name of their setting."""
    found: dict[str, list[LabelGain]] = {}
    for gain in gains:
        found.setdefault(", ".join(gain.setting) or "all trials", []).append(gain)
    return found
