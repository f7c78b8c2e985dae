"""Which differences an experiment can show: the power of the t-test over the means of the seeds.

This test is the narrowest part of a finding (studies/comparisons.py): however many settings an experiment has, it has
only as many independent draws as seeds.
"""

import math
from collections.abc import Sequence
from statistics import fmean, variance

from scipy.optimize import root_scalar
from scipy.stats import nct
from scipy.stats import t as student

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.comparisons import CONFIDENCE, Comparison, compare_levels
from longtail.spark_jobs.studies.trial_row import Row

POWER = 0.8
"""Probability with which a difference should be found."""
EQUAL = 1e-9
"""Differences that vary by no more between seeds are equal."""
_LARGEST_NONCENTRALITY = 200.0


def detectable_difference(deviation: float, num_seeds: int) -> float | None:
    """The mean difference that a two-sided t-test at 1 - CONFIDENCE finds with probability POWER; None for one seed.

    deviation: standard deviation between seeds of the (mean) paired difference; the result is in its unit
    """
    if num_seeds < 2:
        return None
    freedom = num_seeds - 1
    critical = student.isf((1 - CONFIDENCE) / 2, freedom)

    def lacking(noncentrality: float) -> float:
        # The probability of a finding with the wrong sign is negligible from a power of 0.8 on.
        return float(nct.sf(critical, freedom, noncentrality)) - POWER

    return deviation * root_scalar(lacking, bracket=(0, _LARGEST_NONCENTRALITY)).root / math.sqrt(num_seeds)


def deviation_of_axis(comparisons: Sequence[Comparison], axis: str) -> float | None:
    """Standard deviation between seeds of the paired differences of an axis, pooled over its levels.

    None without two seeds.
    """
    variances = [
        variance(comparison.by_seed.values())
        for comparison in comparisons
        if comparison.axis == axis and comparison.num_seeds > 1
    ]
    return math.sqrt(fmean(variances)) if variances else None


def power_statements(experiment: Experiment, rows: Sequence[Row], *, num_seeds: int, score: str) -> list[str]:
    """A sentence per axis: which differences of a score this many seeds can show.

    rows: finished trials, whose differences vary between seeds as those to come are expected to. Without them, the
    deviation that the experiment's file assumes is used, or else the result is given in deviations.
    """
    comparisons = compare_levels(experiment, rows, score=score)
    measured = {axis: deviation_of_axis(comparisons, axis) for axis in experiment.axes}
    statements = [
        _statement(f"{axis}: ", deviation, num_seeds, f"that vary by {100 * deviation:.1f} between seeds")
        if deviation > EQUAL
        else f"{axis}: all seeds have equal differences, which does not tell how much others vary."
        for axis, deviation in measured.items()
        if deviation is not None
    ]
    if statements:
        return statements
    if (assumed := experiment.assumed_deviation) is not None:
        source = f"if they vary by {assumed:.1f} between seeds, as the experiment's file assumes"
        return [_statement("", assumed / 100, num_seeds, source)]
    smallest = detectable_difference(1.0, num_seeds)
    if smallest is None:
        return ["One seed shows no difference: a test needs at least two."]
    return [
        f"{num_seeds} seeds show, {POWER:.0%} of the time, a difference of {smallest:.1f} times its standard deviation "
        f"between seeds, which is unknown before there are trials."
    ]


def _statement(of: str, deviation: float, num_seeds: int, source: str) -> str:
    if (smallest := detectable_difference(deviation, num_seeds)) is None:
        return f"{of}one seed shows no difference: a test needs at least two."
    more = 2 * num_seeds
    with_more = detectable_difference(deviation, more)
    assert with_more is not None, "there are two seeds or more"
    return (
        f"{of}{num_seeds} seeds show, {POWER:.0%} of the time, differences of {100 * smallest:.1f} points or more "
        f"({source}); {more} seeds would show {100 * with_more:.1f}."
    )
