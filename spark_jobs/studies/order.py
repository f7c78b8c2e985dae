"""The order in which the trials of an experiment are finished.

An experiment that is cut off should have whole trials to show, and none of its shared steps should have to run again
where it goes on. So it runs seed by seed, and trials that share a step (a pre-training, a labeller) are finished
together. A slot that they leave free takes the next step that can run, whosever it is.
"""

from collections.abc import Sequence

from longtail.spark_jobs.studies.planned import PlannedStep, PlannedTrial


def in_order(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The trials in the order of their seeds, then of the plan; those with a common step (but a prepared set) together.

    It is the first of them that gives the others their place.
    """
    seeds = list(dict.fromkeys(trial.trial.options["seed"] for trial in trials))
    group_of_step: dict[str, list[PlannedTrial]] = {}
    for trial in sorted(trials, key=lambda trial: seeds.index(trial.trial.options["seed"])):
        sharing = {id(group): group for step_id in _own_steps(trial) if (group := group_of_step.get(step_id))}
        merged = [*(other for group in sharing.values() for other in group), trial]
        group_of_step |= {step_id: merged for member in merged for step_id in _own_steps(member)}
    groups = {id(group): group for group in group_of_step.values()}
    return [trial for group in groups.values() for trial in group]


def in_groups(steps: Sequence[PlannedStep], *, size: int) -> list[list[PlannedStep]]:
    """The steps in groups, none of which needs another of its group; each group after those that it needs.

    steps: each after its inputs
    size: trainings of one rank in a group, at most; any other step is a group of its own
    """
    groups: list[list[PlannedStep]] = []
    place: dict[str, int] = {}  # of the group of each step
    unfilled: dict[int, int] = {}  # by depth, the place of the last group
    for step in steps:
        number = unfilled.get(step.depth) if step.is_training_of_one_rank else None
        if number is None or any(place[other.step_id] >= number for other in step.inputs.values()):
            number = len(groups)
            groups.append([])
        groups[number].append(step)
        place[step.step_id] = number
        if step.is_training_of_one_rank:
            unfilled[step.depth] = number
            if len(groups[number]) >= size:
                del unfilled[step.depth]
    return groups


def _own_steps(trial: PlannedTrial) -> list[str]:
    return [step.step_id for step in trial.steps() if step.job != "prepare"]
