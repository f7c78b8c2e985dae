"""The findings of an experiment, as sentences."""

from collections.abc import Sequence

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.comparisons import CONFIDENCE, Comparison, compare
from longtail.spark_jobs.studies.trial_row import Row

_COMPARED = {"balanced_accuracy": "balanced accuracy", "few_shot_accuracy": "few-shot accuracy"}


def findings(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """One sentence per comparison of a level with the first of its axis: the difference, and whether it is certain."""
    found = []
    for axis, levels in experiment.axes.items():
        for level in list(levels)[1:]:
            for score, name in _COMPARED.items():
                if (comparison := compare(experiment, rows, axis=axis, level=level, score=score)) is not None:
                    found.append(_sentence(comparison, name))
    return found or ["No axis has trials at two levels: there is nothing to compare."]


def _sentence(comparison: Comparison, score: str) -> str:
    subject = f"{comparison.axis}: {comparison.level} against {comparison.against}, {score}"
    change = f"{100 * comparison.mean:+.1f} points over {comparison.num_pairs} pairs ({comparison.num_seeds} seeds)"
    higher = sum(difference > 0 for difference in comparison.by_setting.values())
    settings = f"higher in {higher} of {len(comparison.by_setting)} settings of the other axes"
    if comparison.low is None or comparison.high is None or comparison.p_value is None:
        reason = "too few pairs, one seed, or equal differences"
        return f"{subject}: {change}; {settings}. No test is possible ({reason}): inconclusive."
    interval = f"{CONFIDENCE:.0%} interval {100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
    test = f"t-test p {'< 0.001' if comparison.p_value < 0.001 else f'= {comparison.p_value:.3f}'}"
    verdict = "the data supports neither a gain nor a loss"
    if comparison.is_supported:
        verdict = f"the data supports a {'gain' if comparison.mean > 0 else 'loss'}"
    return f"{subject}: {change}, {interval}, {test}; {settings}: **{verdict}**."
