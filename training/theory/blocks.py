"""What the theorems' simulations hand over: the sums of a block, and what a theorem says of a point."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockSums:
    """Sums over the repetitions of a block.

    hits: repetitions in which the event came about whose probability the theorem bounds from below
    total, total_squares, largest: of the number that each repetition measures; None where there is none
    """

    hits: int
    total: float | None = None
    total_squares: float | None = None
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a theorem says of a point.

    bound: least probability of the event; it says nothing at 0 or below
    conditions_met: whether the point is inside the theorem's conditions
    draws_per_repetition: samples X of the model that one repetition stands for
    exact: the event's true probability, where there is a formula
    predicted_mean: the true mean of the measured number, where there is a formula
    error_bound: the error that the event is about, if it is about one; it says nothing at 1 or above
    """

    bound: float
    conditions_met: bool
    draws_per_repetition: int
    exact: float | None = None
    predicted_mean: float | None = None
    error_bound: float | None = None

    @property
    def vacuous(self) -> bool:
        """Whether the bound says nothing: a least probability of 0, or a largest error of 1."""
        return self.bound <= 0 or (self.error_bound is not None and self.error_bound >= 1)
