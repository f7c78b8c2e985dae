"""What `experiment` prints: the steps and their cost before, the trials' scores after."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from longtail.conf.experiment import Experiment
from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.studies.comparisons import Arm, arms
from longtail.spark_jobs.studies.cost import StepTime, images_of_step, kind_of, seconds_by_image
from longtail.spark_jobs.studies.plan import PlannedTrial, all_steps


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
    """Test accuracy in percent, mean and standard deviation over the seeds, a line per combination of levels."""
    for arm in arms(experiment, rows):
        groups = ", ".join(f"{group} {mean_and_deviation(arm, f'{group}_shot_accuracy')}" for group in SHOT_GROUPS)
        balanced = mean_and_deviation(arm, "balanced_accuracy")
        print(f"{arm.name}: balanced accuracy {balanced} %, {groups} ({len(arm.rows)} seeds)")


def mean_and_deviation(arm: Arm, score: str) -> str:
    """Over the seeds, in percent: mean and sample standard deviation; "-" if there is no value."""
    deviation = arm.deviation(score)
    return percent(arm.mean(score)) + ("" if deviation is None else f" ± {100 * deviation:.1f}")
