"""Reports inside an epoch (training/step_watch.py): every few seconds, of the steps since the one before."""

import math

import torch
from torch import Tensor

from longtail.training.metrics import ClassTotals
from longtail.training.step_watch import StepReport, StepWatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def batch(targets: list[int], guesses: list[int], loss: float) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.nn.functional.one_hot(torch.tensor(guesses), 2).float()
    return logits, torch.tensor(targets), torch.full((len(targets),), loss)


def test_a_report_covers_the_steps_since_the_previous_one_and_restarts_in_every_epoch() -> None:
    clock, told = Clock(), []
    watch = StepWatch(told.append, seconds=2, clock=clock)
    totals = ClassTotals.zeros(2, torch.device("cpu"))
    watch.begin_epoch(1, learning_rates=[0.4, 0.3, 0.2, 0.1], totals=totals)
    for seconds, step in ((1.5, ([0, 1], [0, 0], 0.5)), (1.0, ([1, 1], [1, 1], 1.0)), (2.0, ([0, 0], [1, 1], 4.0))):
        clock.now += seconds
        totals.add(*batch(*step))
        watch.step_done()
    second = ClassTotals.zeros(2, torch.device("cpu"))
    watch.begin_epoch(2, learning_rates=[0.4, 0.3, 0.2, 0.1], totals=second)
    clock.now += 1.0
    second.add(*batch([0], [0], 0.25))
    watch.step_done()  # a second after the last report
    clock.now += 1.0
    second.add(*batch([0], [0], 0.75))
    watch.step_done()

    shared = {"num_steps": 4}
    assert told == [
        # Two steps in 2.5 s: 4 images, 3 of them right.
        StepReport(epoch=1, step=2, loss=0.75, accuracy=3 / 4, images_per_second=4 / 2.5, learning_rate=0.3, **shared),
        StepReport(epoch=1, step=3, loss=4.0, accuracy=0.0, images_per_second=2 / 2.0, learning_rate=0.2, **shared),
        StepReport(epoch=2, step=2, loss=0.5, accuracy=1.0, images_per_second=2 / 2.0, learning_rate=0.3, **shared),
    ]


def test_a_loss_that_is_not_a_number_is_reported() -> None:
    told: list[StepReport] = []
    watch = StepWatch(told.append, seconds=1000)
    totals = ClassTotals.zeros(2, torch.device("cpu"))
    watch.begin_epoch(1, learning_rates=[0.1], totals=totals)
    watch.report_now()  # of no image there is nothing to tell
    totals.add(*batch([0], [0], math.nan))
    watch.step_done()
    watch.report_now()

    assert len(told) == 1 and math.isnan(told[0].loss) and told[0].step == 1
