"""What `experiment` prints: the steps and their cost before, the trials' scores after."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from rich import get_console
from rich.table import Table

from conf.experiment import Experiment
from spark_jobs.experiment_cost import StepTime, images_of_step, kind_of, seconds_by_image
from spark_jobs.experiment_plan import PlannedTrial, all_steps
from streaming.tables import percent


def print_plan(trials: Sequence[PlannedTrial], times: Mapping[str, StepTime]) -> None:
    """Each step once: what it is, how many trials need it, the images it takes through the network, its time.

    The time is measured if the step ran before, else estimated from steps of its job and network that did.
    """
    rates = seconds_by_image(times.values())
    users = Counter(step.step_id for trial in trials for step in trial.steps())
    left, num_unknown = 0.0, 0
    print(f"{'images x epochs':>15}  {'seconds':>12}  {'trials':>6}  step")
    for step in all_steps(trials):
        num_images = images_of_step(step)
        rate = rates.get(kind_of(step))
        if (taken := times.get(step.step_id)) is not None:
            seconds = f"{taken.seconds:.0f}, done"
        elif step.job == "prepare":
            seconds = "-"
        elif rate is not None and num_images is not None:
            left += rate * num_images
            seconds = f"about {rate * num_images:.0f}"
        else:
            num_unknown += 1
            seconds = "?"
        images = "?" if num_images is None else f"{num_images:,}" if num_images else "-"
        print(f"{images:>15}  {seconds:>12}  {users[step.step_id]:>6}  {step.name}")
    alone = sum(len(trial.steps()) for trial in trials)
    print(f"{len(trials)} trials, {len(users)} steps ({alone} if none were shared)")
    print(_time_left(left, num_unknown))


def _time_left(seconds: float, num_unknown: int) -> str:
    known = f"to do, one step at a time: about {seconds / 60:.1f} min"
    if not num_unknown:
        return known
    return f"{known}, and {num_unknown} steps of a kind that has not been timed here yet"


def print_scores(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> None:
    """Test accuracy over the seeds, a row per combination of levels."""
    table = Table()
    for axis in experiment.axes:
        table.add_column(axis)
    for heading in ("seeds", "balanced %", "many %", "medium %", "few %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for levels, of_levels in by_levels(experiment, rows).items():
        scores = [
            mean_and_deviation([row[f"{name}_accuracy"] for row in of_levels])
            for name in ("balanced", "many_shot", "medium_shot", "few_shot")
        ]
        table.add_row(*levels, str(len(of_levels)), *scores)
    get_console().print(table)


def by_levels(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Rows by their levels, in the experiment's order; combinations without rows are left out."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for levels in itertools.product(*experiment.axes.values()):
        wanted = dict(zip(experiment.axes, levels, strict=True))
        if of_levels := [row for row in rows if row["levels"] == wanted]:
            groups[levels] = of_levels
    return groups


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """In percent: mean and sample standard deviation; "-" if there is no value."""
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    deviation = f" ± {100 * stdev(present):.1f}" if len(present) > 1 else ""
    return f"{percent(fmean(present))}{deviation}"
