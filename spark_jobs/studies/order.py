"""The order in which the trials of an experiment are finished.

An experiment that is cut off should have whole trials to show, and none of its shared steps should have to run again
where it goes on. So it runs seed by seed, and trials that share a step (a pre-training, a labeller) are finished
together.
"""

from collections.abc import Sequence

from longtail.spark_jobs.studies.planned import PlannedTrial


def batches_of_trials(trials: Sequence[PlannedTrial], *, num_slots: int) -> list[list[PlannedTrial]]:
    """The trials in batches, to be finished one after the other; in the order of their seeds, then of the plan.

    Trials with a common step other than a prepared set are in the same batch. A batch has so many of such groups that
    their last steps fill the slots.

    num_slots: tasks that may run at the same time
    """
    batches: list[list[PlannedTrial]] = []
    free = 0
    for group in _groups(trials):
        if free <= 0:
            batches.append([])
            free = num_slots
        batches[-1] += group
        free -= sum(trial.last_step.num_slots for trial in group)
    return batches


def _groups(trials: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
    """Trials that share a step, directly or by way of others."""
    seeds = list(dict.fromkeys(trial.trial.options["seed"] for trial in trials))
    group_of_step: dict[str, list[PlannedTrial]] = {}
    for trial in sorted(trials, key=lambda trial: seeds.index(trial.trial.options["seed"])):
        sharing = {id(group): group for step_id in _own_steps(trial) if (group := group_of_step.get(step_id))}
        merged = [*(other for group in sharing.values() for other in group), trial]
        group_of_step |= {step_id: merged for member in merged for step_id in _own_steps(member)}
    return list({id(group): group for group in group_of_step.values()}.values())


def _own_steps(trial: PlannedTrial) -> list[str]:
    return [step.step_id for step in trial.steps() if step.job != "prepare"]
