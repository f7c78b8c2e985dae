"""Confidence intervals of measured shares. Only arithmetic: on numbers, numpy arrays and Spark columns."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyspark.sql import Column

    Number = TypeVar("Number", float, Column, NDArray[np.float64])

_Z_SQUARED = 1.959963984540054**2
"""Square of the 97.5 % quantile of the normal distribution."""


def wilson_interval(share: "Number", count: "Number", *, sqrt: "Callable[[Number], Number]") -> "tuple[Number, Number]":
    """Wilson's score interval (95 %) of a share of `count` independent observations (Wilson 1927).

    Unlike share ± 1.96 standard errors it lies in [0, 1] and does not shrink to a point at 0 and 1: of five images,
    five correct ones give 0.57 to 1.

    share: in [0, 1]; count: above 0. Of a null column the interval is null
    sqrt: the square root of such a value, math.sqrt, numpy's or Spark's
    """
    return _lower_bound(share, count, sqrt), 1 - _lower_bound(1 - share, count, sqrt)


def _lower_bound(share: "Number", count: "Number", sqrt: "Callable[[Number], Number]") -> "Number":
    # The smaller root of (share - x)^2 = z^2 x (1 - x) / count, in the form that subtracts nothing: exactly 0 at 0.
    t = _Z_SQUARED / count
    return 2 * share * share / (2 * share + t + sqrt(t * t + 4 * t * share * (1 - share)))
