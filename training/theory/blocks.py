"""Results of the simulations of a theorem: sums over a block, and the theorem's claim about a point."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockSums:
    """Sums over the repetitions of a block.

    hits: repetitions with the event whose probability the theorem bounds from below
    total, total_squares, largest: sum, sum of squares and maximum of the value measured per repetition, or None
    """

    hits: int
    total: float | None = None
    total_squares: float | None = None
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Claim of a theorem about a point.

    bound: lower bound of the event's probability; vacuous at 0 or below
    conditions_met: whether the point satisfies the theorem's conditions
    draws_per_repetition: number of samples X of the model that one repetition represents
    exact: exact probability of the event; None without a formula
    predicted_mean: exact mean of the measured value; None without a formula
    error_bound: upper bound of the error, if the event is about an error; vacuous at 1 or above
    """

    bound: float
    conditions_met: bool
    draws_per_repetition: int
    exact: float | None = None
    predicted_mean: float | None = None
    error_bound: float | None = None

    @property
    def vacuous(self) -> bool:
        """Whether the bound is vacuous: a probability of at least 0, or an error of at most 1."""
        return self.bound <= 0 or (self.error_bound is not None and self.error_bound >= 1)
