"""Training budgets: for how many epochs and optimizer steps the arms of an experiment train.

A difference between arms of unequal budgets may be one of training time.
"""

from collections.abc import Iterable, Sequence

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.studies.cost import optimizer_steps_of_step
from longtail.spark_jobs.studies.planned import PlannedTrial
from longtail.spark_jobs.studies.trial_row import Row

Budget = tuple[int | None, int | None]
"""Epochs (in all rounds of self-training) and optimizer steps of a trial's last step; None where unknown."""


def budget_cells(rows: Sequence[Row]) -> dict[str, str]:
    """Epochs, steps and the steps of the trainings before (pre-training, labeller) of an arm, by heading.

    rows: of the arm's trials; "-" for numbers that they do not have
    """
    epochs = [(row["rounds"] or 1, row["epochs"]) for row in rows]
    return {
        "epochs": _listed(f"{rounds} x {number}" if rounds > 1 else str(number) for rounds, number in epochs),
        "steps": _listed(_number(row["optimizer_steps"]) for row in rows),
        "steps before": _listed(_number(row["earlier_optimizer_steps"]) for row in rows),
    }


def budgets_of_rows(rows: Iterable[Row]) -> list[Budget]:
    """The budgets of finished trials."""
    return [((row["rounds"] or 1) * row["epochs"], row["optimizer_steps"]) for row in rows]


def budgets_of_plan(trials: Iterable[PlannedTrial]) -> list[Budget]:
    """The budgets of planned trials."""
    found: list[Budget] = []
    for trial in trials:
        options = trial.last_step.planned_options
        assert isinstance(options, RunOptions), "the last step of a trial is a training"
        rounds = options.rounds if isinstance(options, TrainSemiOptions) else 1
        found.append((rounds * options.epochs, optimizer_steps_of_step(trial.last_step)))
    return found


def budget_sentence(budgets: Sequence[Budget]) -> str:
    """Whether all trials have the same budget; empty if their steps are unknown."""
    epochs, steps = (
        sorted({number for number in of_all if number is not None}) for of_all in zip(*budgets, strict=True)
    )
    if not steps or any(None in budget for budget in budgets):
        return ""
    if len(epochs) == len(steps) == 1:
        return f"All trials train for {epochs[0]} epochs, {steps[0]:,} optimizer steps."
    return (
        f"The trials train for {_range(epochs)} epochs, {_range(steps)} optimizer steps: a difference between arms of "
        f"unequal steps may be one of training time."
    )


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
