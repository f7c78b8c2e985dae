"""The parts of a plan: steps with the steps that they depend on, and trials with their last step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from longtail.conf.arguments import resolve_options
from longtail.conf.base.locations import Location
from longtail.conf.experiment import Options, Trial
from longtail.conf.options.base import fingerprint
from longtail.conf.options.data import DataOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions

OPTIONS_OF_JOB: dict[str, type[DataOptions]] = {
    "prepare": PrepareOptions,
    **PRETRAININGS,
    "train": TrainOptions,
    "gen_pseudolabels": GenPseudolabelsOptions,
    "train_semi": TrainSemiOptions,
    "train_classifier": TrainClassifierOptions,
}
SET = "set"
"""Input of every step except prepare: a prepared set. Other inputs have the name of the option that takes them."""


@dataclass(frozen=True)
class PlannedStep:
    """A job with its options and its inputs: the steps whose output it uses.

    values: the options that the experiment sets
    inputs: by SET or option name
    planned_options: all options; those that name an input's output name an existing file instead
    """

    job: str
    values: Options
    inputs: Mapping[str, "PlannedStep"]
    planned_options: DataOptions

    @cached_property
    def step_id(self) -> str:
        """Equal for steps with the same outcome, however their options were written."""
        inputs = {name: step.step_id for name, step in self.inputs.items()}
        options = self.planned_options
        own = options.set_name()
        if isinstance(options, RunOptions):
            own = options.run_name({})
        elif isinstance(options, GenPseudolabelsOptions):
            own = options.labels_name()
        return fingerprint({"job": self.job, "own": own, "inputs": inputs})

    @property
    def name(self) -> str:
        """Name for people."""
        options = self.planned_options
        if isinstance(options, GenPseudolabelsOptions):
            return f"{self.job} {options.labels_name()}"
        if not isinstance(options, RunOptions):
            return f"{self.job} {options.set_name()}"
        return options.run_name({}).rpartition("-")[0]

    @property
    def num_slots(self) -> int:
        """Tasks that must run at the same time."""
        return self.planned_options.world_size if isinstance(self.planned_options, RunOptions) else 1

    @property
    def is_training_of_one_rank(self) -> bool:
        """Whether it may share a process with others (studies/side_by_side.py)."""
        options = self.planned_options
        if not isinstance(options, RunOptions) or options.world_size > 1 or SET not in self.inputs:
            return False
        return not isinstance(options, TrainSemiOptions) or options.rounds == 1

    @property
    def arch(self) -> str | None:
        """The network of a step that trains."""
        return self.planned_options.arch if isinstance(self.planned_options, RunOptions) else None

    @cached_property
    def depth(self) -> int:
        """Length of the longest chain of inputs; steps of the same depth are independent."""
        return 1 + max((step.depth for step in self.inputs.values()), default=-1)

    def options(self, **outputs: Location) -> DataOptions:
        """The job's options. outputs: by option name, the checkpoints and tables of the inputs."""
        return resolve_options(OPTIONS_OF_JOB[self.job], {**self.values, **outputs})


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and its last step, whose scores are the trial's."""

    trial: Trial
    last_step: PlannedStep

    def steps(self) -> list[PlannedStep]:
        """All steps of the trial, each after its inputs."""
        return _with_inputs([self.last_step])


def all_steps(trials: Sequence[PlannedTrial]) -> list[PlannedStep]:
    """The steps of all trials, each once, by depth."""
    return sorted(steps_in_order(trials), key=lambda step: step.depth)


def steps_in_order(trials: Sequence[PlannedTrial]) -> list[PlannedStep]:
    """The steps of all trials, each once and after its inputs, in the order of the trials."""
    return _with_inputs([trial.last_step for trial in trials])


def titles_of(steps: Sequence[PlannedStep]) -> dict[str, str]:
    """By step_id, the name of each step, and the options that tell it from other steps of its name."""
    by_name: dict[str, list[PlannedStep]] = {}
    for step in steps:
        by_name.setdefault(step.name, []).append(step)
    titles: dict[str, str] = {}
    for name, same in by_name.items():
        values = [{key: value for key, value in it.planned_options if key not in it.inputs} for it in same]
        shared = set.intersection(*(set(of_step) for of_step in values))
        differing = [key for key in values[0] if key in shared and any(it[key] != values[0][key] for it in values)]
        for step, of_step in zip(same, values, strict=True):
            titles[step.step_id] = ", ".join([name, *(f"{key} {of_step[key]}" for key in differing)])
    return titles


def _with_inputs(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    found: dict[str, PlannedStep] = {}

    def visit(step: PlannedStep) -> None:
        for other in step.inputs.values():
            visit(other)
        found.setdefault(step.step_id, step)

    for step in steps:
        visit(step)
    return list(found.values())
