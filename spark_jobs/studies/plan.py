"""Planning: from the trials of an experiment to the steps that they share.

    prepare -> [pretrain_*] -> train -> [train_classifier]
    prepare -> [pretrain_*] -> train_semi (FixMatch) -> [train_classifier]
    prepare -> [pretrain_*] -> train (the labeller) -> gen_pseudolabels -> train_semi -> [train_classifier]

A step is a job with its options and inputs. Equal steps of several trials are one
step. The labeller, and every step that uses no pseudo-labels, works on the set
without the unlabeled part: its labelled images are the same, so trials that differ
only in D_U share these steps.
"""

from collections.abc import Mapping
from pathlib import Path

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.command_line.spellings import names_by_key
from longtail.conf.experiment import CLASSIFIER, LABELLER, PRETRAINING_JOB, Experiment, Options, Trial
from longtail.conf.options.data import OF_UNLABELED
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.studies.planned import OPTIONS_OF_JOB, SET, PlannedStep, PlannedTrial

_INHERITED = frozenset(RunOptions.model_fields) - {"epochs", "batch_size", "learning_rate", "lr_schedule"}
"""Options that a second stage inherits from the training before it; its schedule is its own."""


def plan(experiment: Experiment, *, source: str, common: Options, num_seeds: int | None = None) -> list[PlannedTrial]:
    """Plan the steps of each trial.

    source: name or path of the experiment, for messages
    common: options for every step, from the command line
    num_seeds: plan only this many of the file's seeds, the first ones; None: all

    Raises UserError for an option that no job has, and, naming the trial, for one that its job refuses.
    """
    seeds = experiment.seeds[:num_seeds]
    if num_seeds is not None and num_seeds > len(seeds):
        raise UserError(f"--num_seeds {num_seeds}: {source} has {len(seeds)} seeds; give at most that many")
    if unknown := unknown_options(experiment):
        named = ", ".join(name + _meant(name) for name in unknown)
        raise UserError(f"{source}: no job has an option {named}; `longtail train_semi --help` lists them")
    planned = []
    for trial in experiment.trials():
        if trial.options["seed"] not in seeds:
            continue
        try:
            planned.append(PlannedTrial(trial, _Planner(experiment, trial, common).last_step()))
        except UserError as error:
            raise UserError(f"{source}, trial {trial.name}: {error}") from None
    return planned


def unknown_options(experiment: Experiment) -> list[str]:
    """Option names in the file that no job has."""
    levels = [options for axis in experiment.axes.values() for options in axis.values()]
    labellers = [options.get(LABELLER) or {} for options in (experiment.options, *levels)]
    parts = (experiment.options, experiment.pretraining, experiment.labeller, experiment.semi, *labellers, *levels)
    return sorted({name for part in parts for name in part} - _known_options())


def _known_options() -> set[str]:
    of_jobs = {name for kind in OPTIONS_OF_JOB.values() for name in kind.model_fields}
    return of_jobs | {PRETRAINING_JOB, CLASSIFIER, LABELLER}


def _meant(name: str) -> str:
    """The option that an unknown name is a flag of on the command line (lr), or resembles; in brackets, to append."""
    of_flags = {key: option for kind in OPTIONS_OF_JOB.values() for key, option in names_by_key(kind).items()}
    if name in of_flags:
        return f" (did you mean {of_flags[name]}?)"
    return did_you_mean(name, sorted(_known_options()))


class _Planner:
    """Builds the steps of one trial."""

    def __init__(self, experiment: Experiment, trial: Trial, common: Options) -> None:
        self._experiment, self._trial = experiment, trial
        own = {
            name: value for name, value in trial.options.items() if name not in (PRETRAINING_JOB, CLASSIFIER, LABELLER)
        }
        self._all = {**own, **common}
        self._labelled_only = {name: value for name, value in self._all.items() if name not in OF_UNLABELED}

    def last_step(self) -> PlannedStep:
        trained = self._semi() if self._trial.is_semi_supervised else self._train(self._labelled_only)
        if self._trial.classifier is None:
            return trained
        inherited = {name: value for name, value in trained.values.items() if name in _INHERITED}
        values = {**inherited, **self._trial.classifier}
        return _step("train_classifier", values, {SET: trained.inputs[SET], "resume": trained})

    def _semi(self) -> PlannedStep:
        data = self._prepare(self._all)
        values = {**self._all, **self._experiment.semi}
        step = _step("train_semi", values, {SET: data, **self._pretrained()})
        assert isinstance(step.planned_options, TrainSemiOptions)
        if not step.planned_options.needs_pseudo_labels:
            return step
        labeller = self._train({**self._labelled_only, **self._experiment.labeller, **self._trial.labeller})
        # Inference has a batch size of its own.
        labelling = {name: value for name, value in self._all.items() if name != "batch_size"}
        labelling["probabilities"] = step.planned_options.pseudo_label_type == "soft"
        labels = _step("gen_pseudolabels", labelling, {SET: data, "resume": labeller})
        return _step("train_semi", values, {**step.inputs, "pseudo_labels": labels})

    def _train(self, values: Options) -> PlannedStep:
        return _step("train", values, {SET: self._prepare(values), **self._pretrained()})

    def _pretrained(self) -> dict[str, PlannedStep]:
        if (job := self._trial.pretraining_job) is None:
            return {}
        values = {**self._labelled_only, **self._experiment.pretraining}
        return {"pretrained_model": _step(job, values, {SET: self._prepare(self._labelled_only)})}

    def _prepare(self, values: Options) -> PlannedStep:
        return _step("prepare", values, {})


def _step(job: str, values: Options, inputs: Mapping[str, PlannedStep]) -> PlannedStep:
    """The step with those of the values that are options of its job. Raises UserError for values that the job refuses.

    An option for one job may be unknown to another; that each is known to some job was checked before.
    """
    options_type = OPTIONS_OF_JOB[job]
    own = {name: value for name, value in values.items() if name in options_type.model_fields}
    # The outputs of the inputs do not exist yet; any existing file passes validation.
    stand_ins = dict.fromkeys((name for name in inputs if name != SET), Path(__file__))
    try:
        planned_options = resolve_options(options_type, {**own, **stand_ins})
    except UserError as error:
        raise UserError(f"{job}: {error}") from None
    return PlannedStep(job, own, inputs, planned_options)
