"""From an experiment's trials to the steps that they share.

    prepare -> [pretrain_*] -> train -> [train_classifier]
    prepare -> [pretrain_*] -> train_semi (FixMatch) -> [train_classifier]
    prepare -> [pretrain_*] -> train (the labeller) -> gen_pseudolabels -> train_semi -> [train_classifier]

A step is a job with its options and the steps whose output it takes. Equal steps
of several trials are one step. The labeller, and every step without pseudo-labels,
works on the set without the unlabeled part: its labelled images are the same, so
trials that differ in D_U alone share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.experiment import CLASSIFIER, PRETRAINING_JOB, Experiment, Options, Trial
from longtail.conf.options.base import fingerprint
from longtail.conf.options.data import OF_UNLABELED, DataOptions, PrepareOptions
from longtail.conf.options.inference import GenPseudolabelsOptions
from longtail.conf.options.pretraining import PretrainMocoOptions, PretrainRotOptions, PretrainSimclrOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions, TrainClassifierOptions, TrainOptions

OPTIONS_OF_JOB: dict[str, type[DataOptions]] = {
    "prepare": PrepareOptions,
    "pretrain_rot": PretrainRotOptions,
    "pretrain_moco": PretrainMocoOptions,
    "pretrain_simclr": PretrainSimclrOptions,
    "train": TrainOptions,
    "gen_pseudolabels": GenPseudolabelsOptions,
    "train_semi": TrainSemiOptions,
    "train_classifier": TrainClassifierOptions,
}
SET = "set"
"""The input that every step but prepare has: a prepared set. Other inputs are named by the option that takes them."""

_OF_SECOND_STAGE = frozenset(RunOptions.model_fields) - {"epochs", "batch_size", "learning_rate", "lr_schedule"}
"""What a second stage takes over from the training before it; how long and how fast it learns is its own."""


@dataclass(frozen=True)
class Step:
    """A job, what it is told, and the steps whose output it takes (SET: a prepared set; else by option).

    planned: the job's options with everything but those outputs, in whose place a file stands that is there
    """

    job: str
    values: Options
    inputs: Mapping[str, "Step"]
    planned: Any

    @cached_property
    def step_id(self) -> str:
        """The same for steps of the same outcome, however their options were spelled."""
        before = {name: step.step_id for name, step in self.inputs.items()}
        own = self.planned.run_name({}) if isinstance(self.planned, RunOptions) else self.planned.set_name()
        return fingerprint({"job": self.job, "own": own, "before": before})

    @property
    def name(self) -> str:
        """What a person calls it."""
        if not isinstance(self.planned, RunOptions):
            return f"{self.job} {self.planned.set_name()}"
        return self.planned.run_name({}).rpartition("-")[0]

    @property
    def num_slots(self) -> int:
        """Tasks that must run at once."""
        return self.planned.world_size if isinstance(self.planned, RunOptions) else 1

    @cached_property
    def depth(self) -> int:
        """Steps of one depth do not wait for each other."""
        return 1 + max((step.depth for step in self.inputs.values()), default=-1)

    def options(self, **inputs: Path) -> Any:
        """The job's options. inputs: by option name, the checkpoints and tables of the steps before."""
        return resolve_options(OPTIONS_OF_JOB[self.job], {**self.values, **inputs})

    @property
    def option_inputs(self) -> list[str]:
        return [name for name in self.inputs if name != SET]


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and its last step, whose scores are the trial's."""

    trial: Trial
    last_step: Step

    def steps(self) -> list[Step]:
        """All steps of the trial, each after those that it needs."""
        return _with_inputs([self.last_step])


def plan(experiment: Experiment, *, path: Path, common: Options) -> list[PlannedTrial]:
    """A planned trial per trial of the file at `path`. common: options of every step, from the command line.

    Raises UserError, which names the trial, for options that a job refuses.
    """
    if unknown := unknown_options(experiment):
        raise UserError(f"{path}: no job has an option {', '.join(unknown)}; `longtail train_semi --help` lists them")
    planned = []
    for trial in experiment.trials():
        try:
            planned.append(PlannedTrial(trial, _Planner(experiment, trial, common).last_step()))
        except UserError as error:
            raise UserError(f"{path}, trial {trial.name}: {error}") from None
    return planned


def all_steps(trials: Sequence[PlannedTrial]) -> list[Step]:
    """The steps of all trials, each once, in an order in which they can run."""
    return sorted(_with_inputs([trial.last_step for trial in trials]), key=lambda step: step.depth)


def _with_inputs(steps: Sequence[Step]) -> list[Step]:
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        for before in step.inputs.values():
            visit(before)
        found.setdefault(step.step_id, step)

    for step in steps:
        visit(step)
    return list(found.values())


class _Planner:
    """The steps of one trial."""

    def __init__(self, experiment: Experiment, trial: Trial, common: Options) -> None:
        self._experiment, self._trial = experiment, trial
        own = {name: value for name, value in trial.options.items() if name not in (PRETRAINING_JOB, CLASSIFIER)}
        self._with_unlabeled = {**own, **common}
        self._labelled = {name: value for name, value in self._with_unlabeled.items() if name not in OF_UNLABELED}

    def last_step(self) -> Step:
        trained = self._semi() if self._trial.is_semi_supervised else self._train(self._labelled)
        if self._trial.classifier is None:
            return trained
        taken = {name: value for name, value in trained.values.items() if name in _OF_SECOND_STAGE}
        values = {**taken, **self._trial.classifier}
        return _step("train_classifier", values, {SET: trained.inputs[SET], "resume": trained})

    def _semi(self) -> Step:
        data = self._prepare(self._with_unlabeled)
        values = {**self._with_unlabeled, **self._experiment.semi}
        by_itself = _step("train_semi", values, {SET: data, **self._pretrained()})
        if not by_itself.planned.needs_pseudo_labels:
            return by_itself
        labeller = self._train({**self._labelled, **self._experiment.labeller})
        labels = _step("gen_pseudolabels", _without_batch_size(self._with_unlabeled), {SET: data, "resume": labeller})
        return _step("train_semi", values, {**by_itself.inputs, "pseudo_labels": labels})

    def _train(self, values: Options) -> Step:
        return _step("train", values, {SET: self._prepare(self._labelled), **self._pretrained()})

    def _pretrained(self) -> dict[str, Step]:
        if (job := self._trial.pretraining_job) is None:
            return {}
        # Losses and rules are of no concern to a training without labels.
        values = {**self._labelled, **self._experiment.pretraining}
        return {"pretrained_model": _step(job, values, {SET: self._prepare(self._labelled)})}

    def _prepare(self, values: Options) -> Step:
        return _step("prepare", values, {})


def _without_batch_size(values: Options) -> Options:
    """A forward pass has a batch size of its own."""
    return {name: value for name, value in values.items() if name != "batch_size"}


def _step(job: str, values: Options, inputs: Mapping[str, Step]) -> Step:
    """The step with those of the values that are its job's options. Raises UserError for values that the job refuses.

    What a trial sets for one job may be no option of another; that each is an option of some job was checked before.
    """
    options_type = OPTIONS_OF_JOB[job]
    own = {name: value for name, value in values.items() if name in options_type.model_fields}
    stand_ins = dict.fromkeys((name for name in inputs if name != SET), Path(__file__))
    try:
        planned = resolve_options(options_type, {**own, **stand_ins})
    except UserError as error:
        raise UserError(f"{job}: {error}") from None
    return Step(job, own, inputs, planned)


def unknown_options(experiment: Experiment) -> list[str]:
    """Names that the file sets and that no job has."""
    known = {PRETRAINING_JOB, CLASSIFIER} | {name for kind in OPTIONS_OF_JOB.values() for name in kind.model_fields}
    levels = (options for axis in experiment.axes.values() for options in axis.values())
    parts = (experiment.options, experiment.pretraining, experiment.labeller, experiment.semi, *levels)
    return sorted({name for part in parts for name in part} - known)
