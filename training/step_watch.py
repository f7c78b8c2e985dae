"""Progress reports within an epoch, every few seconds.

A step only reads the clock. The sums that the loop keeps on the device anyway are read when a report is due: one
synchronisation every few seconds, none per step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longtail.training.metrics import ClassTotals

REPORT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Measurements of this rank since the last report.

    epoch, step: counted from 1; loss, accuracy: means over the images since then
    learning_rate: of the last step
    """

    epoch: int
    step: int
    num_steps: int
    loss: float
    accuracy: float
    images_per_second: float
    learning_rate: float


class StepWatch:
    """Call `report` with a StepReport whenever `seconds` have passed since the last; the clock runs on over epochs."""

    def __init__(
        self,
        report: Callable[[StepReport], None],
        *,
        seconds: float = REPORT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report, self._seconds, self._clock = report, seconds, clock
        self._reported_at = clock()

    def begin_epoch(self, epoch: int, *, learning_rates: Sequence[float], totals: ClassTotals) -> None:
        """epoch: counted from 1; learning_rates: of its steps; totals: the sums to which the loop adds every batch."""
        self._epoch, self._learning_rates, self._totals = epoch, learning_rates, totals
        self._step = 0
        self._before = (0.0, 0.0, 0.0)
        self._since = self._clock()

    def step_done(self) -> None:
        """Count a step; report when the interval is over."""
        self._step += 1
        if self._clock() - self._reported_at >= self._seconds:
            self.report_now()

    def report_now(self) -> None:
        """Report the steps since the last report, if there are any."""
        sums = self._totals.values.sum(dim=1).tolist()
        by_field = dict(zip(ClassTotals.FIELDS, sums, strict=True))
        now, totals = self._clock(), (by_field["support"], by_field["correct"], by_field["loss_sum"])
        images, correct, loss = (after - before for after, before in zip(totals, self._before, strict=True))
        if images:
            self._report(
                StepReport(
                    epoch=self._epoch,
                    step=self._step,
                    num_steps=len(self._learning_rates),
                    loss=loss / images,
                    accuracy=correct / images,
                    images_per_second=images / max(now - self._since, 1e-9),
                    learning_rate=self._learning_rates[self._step - 1],
                )
            )
        self._before, self._since, self._reported_at = totals, now, now
