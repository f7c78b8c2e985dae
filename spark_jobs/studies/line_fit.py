"""A least-squares line through the trials of several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longtail.spark_jobs.studies.comparisons import p_value

MIN_DIFFERENT = 3
"""Values of x: through two of them goes a line, whatever they are."""


@dataclass(frozen=True)
class LineFit:
    """The line y = intercept + slope * x.

    p_value: of the seeds' slopes against zero (Student's t-test); None for one seed
    zero: the x at which the line is zero; None outside the measured ones
    """

    slope: float
    intercept: float
    p_value: float | None
    zero: float | None


def fit_line(points: Sequence[tuple[int, float, float]]) -> LineFit | None:
    """The line through the points; None for fewer than MIN_DIFFERENT different x.

    points: seed, x, y
    """
    if len({x for _, x, _ in points}) < MIN_DIFFERENT:
        return None
    slope, intercept = _line(points)
    by_seed: dict[int, list[tuple[int, float, float]]] = {}
    for point in points:
        by_seed.setdefault(point[0], []).append(point)
    slopes = [_line(of_seed)[0] for of_seed in by_seed.values() if len({x for _, x, _ in of_seed}) > 1]
    zero = -intercept / slope if slope else None
    lowest, highest = (bound(x for _, x, _ in points) for bound in (min, max))
    return LineFit(
        slope,
        intercept,
        p_value=p_value(slopes) if len(slopes) > 1 else None,
        zero=zero if zero is not None and lowest <= zero <= highest else None,
    )


def _line(points: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    slope, intercept = np.polyfit([x for _, x, _ in points], [y for *_, y in points], deg=1)
    return float(slope), float(intercept)
