"""Terminal output of `experiment`: the steps and their cost, and the scores of the trials."""

from collections import Counter
from collections.abc import Mapping, Sequence

from longtail.conf.experiment import Experiment
from longtail.conf.vocabulary import SHOT_GROUPS
from longtail.spark_jobs.display.tables import percent
from longtail.spark_jobs.studies.arms import REPORTED_SCORES, Arm, arms_of
from longtail.spark_jobs.studies.budgets import budget_sentence, budgets_of_plan
from longtail.spark_jobs.studies.cost import StepTime, images_of_step, kind_of, seconds_per_image
from longtail.spark_jobs.studies.planned import PlannedTrial, all_steps, titles_of
from longtail.spark_jobs.studies.power import power_statements
from longtail.spark_jobs.studies.probe import NUM_STEPS, probed_seconds_per_image
from longtail.spark_jobs.studies.trial_row import Row


def print_plan(
    experiment: Experiment, trials: Sequence[PlannedTrial], times: Mapping[str, StepTime], rows: Sequence[Row]
) -> None:
    """Print each step once: its images, its time, the number of trials that use it, the steps it starts from, its name.

    The time of a finished step is measured, that of others estimated: from finished steps of the same kind, otherwise
    from a probe of their network (probe.py). Below stand the budgets of the trials, and which differences their seeds
    can show, judged by the rows of finished trials.
    """
    rates = seconds_per_image(times.values())
    probed = probed_seconds_per_image(
        step
        for step in all_steps(trials)
        if step.job != "prepare" and step.step_id not in times and kind_of(step) not in rates and images_of_step(step)
    )
    users = Counter(step.step_id for trial in trials for step in trial.steps())
    remaining, num_unknown = 0.0, 0
    steps = all_steps(trials)
    numbers, titles = {step.step_id: number for number, step in enumerate(steps, 1)}, titles_of(steps)
    print(f"{'images x epochs':>15}  {'seconds':>12}  {'trials':>6}  {'no.':>4}  {'from':>7}  step")
    for step in steps:
        num_images = images_of_step(step)
        rate = rates.get(kind_of(step))
        if (time := times.get(step.step_id)) is not None:
            seconds = f"{time.seconds:.0f}, done"
        elif step.job == "prepare":
            seconds = "-"
        elif rate is not None and num_images is not None:
            remaining += rate * num_images
            seconds = f"about {rate * num_images:.0f}"
        elif num_images is not None and (rate := probed.get(kind_of(step))) is not None:
            remaining += rate * num_images
            seconds = f"~ {rate * num_images:.0f}"
        else:
            num_unknown += 1
            seconds = "?"
        images = "?" if num_images is None else f"{num_images:,}" if num_images else "-"
        inputs = ",".join(str(number) for number in sorted(numbers[it.step_id] for it in step.inputs.values()))
        row = f"{images:>15}  {seconds:>12}  {users[step.step_id]:>6}  {numbers[step.step_id]:>4}  {inputs or '-':>7}"
        print(f"{row}  {titles[step.step_id]}")
    unshared = sum(len(trial.steps()) for trial in trials)
    print(f"{len(trials)} trials, {len(users)} steps ({unshared} if none were shared)")
    print(_remaining_time(remaining, num_unknown))
    if probed:
        print(
            f"~: by a probe of {NUM_STEPS} steps on random images, without evaluation and the start of Spark; "
            "steps that ran say more"
        )
    if budget := budget_sentence(budgets_of_plan(trials)):
        print(budget)
    num_seeds = len({trial.trial.options["seed"] for trial in trials})
    score = "balanced_accuracy"
    for statement in power_statements(experiment, rows, num_seeds=num_seeds, score=score):
        print(f"{REPORTED_SCORES[score]}: {statement}")


def _remaining_time(seconds: float, num_unknown: int) -> str:
    known = f"remaining, one step at a time: about {seconds / 60:.1f} min"
    if not num_unknown:
        return known
    return f"{known}, and {num_unknown} steps of kinds that have not been timed yet"


def print_scores(experiment: Experiment, rows: Sequence[Row]) -> None:
    """Print test accuracy in percent, mean and standard deviation over the seeds, one line per arm."""
    for arm in arms_of(experiment, rows):
        groups = ", ".join(f"{group} {mean_and_deviation(arm, f'{group}_shot_accuracy')}" for group in SHOT_GROUPS)
        balanced = mean_and_deviation(arm, "balanced_accuracy")
        print(f"{arm.name}: balanced accuracy {balanced} %, {groups} ({len(arm.rows)} seeds)")


def mean_and_deviation(arm: Arm, score: str) -> str:
    """Mean and sample standard deviation over the seeds, in percent; "-" without a value."""
    deviation = arm.deviation(score)
    return percent(arm.mean(score)) + ("" if deviation is None else f" ± {100 * deviation:.1f}")
