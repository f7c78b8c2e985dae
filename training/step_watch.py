"""How learning goes inside an epoch, told every few seconds.

A step costs a look at the clock. Only when it is time to tell are the sums
read that the loop keeps on the device anyway: a sync every few seconds, none a step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from longtail.training.metrics import ClassTotals

TELL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """epoch, step: counted from 1; loss, accuracy, images_per_second: of this rank's images since the report before."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    accuracy: float
    images_per_second: float


class StepWatch:
    """Calls `tell` with a StepReport when `seconds` have passed since it last did; the clock runs on over epochs."""

    def __init__(
        self,
        tell: Callable[[StepReport], None],
        *,
        seconds: float = TELL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._seconds, self._clock = tell, seconds, clock
        self._told_at = clock()

    def begin_epoch(self, epoch: int, *, num_steps: int, totals: ClassTotals) -> None:
        """epoch: counted from 1; totals: what the loop adds every batch to."""
        self._epoch, self._num_steps, self._totals = epoch, num_steps, totals
        self._step = 0
        self._before = (0.0, 0.0, 0.0)
        self._since = self._clock()

    def step_done(self) -> None:
        self._step += 1
        if self._clock() - self._told_at >= self._seconds:
            self.tell_now()

    def tell_now(self) -> None:
        """Tell of the steps since the last report, if there are any."""
        sums = self._totals.values.sum(dim=1).tolist()
        of_field = dict(zip(ClassTotals.FIELDS, sums, strict=True))
        now, totals = self._clock(), (of_field["support"], of_field["correct"], of_field["loss_sum"])
        images, correct, loss = (after - before for after, before in zip(totals, self._before, strict=True))
        if images:
            self._tell(
                StepReport(
                    epoch=self._epoch,
                    step=self._step,
                    num_steps=self._num_steps,
                    loss=loss / images,
                    accuracy=correct / images,
                    images_per_second=images / max(now - self._since, 1e-9),
                )
            )
        self._before, self._since, self._told_at = totals, now, now
