"""The format of an experiment file: the grid of trials that `experiment` runs.

    title: What unlabeled data adds at rho = 100
    seeds: [0, 1, 2]
    options: {dataset: cifar10, n_max: 500, epochs: 60}   # for every training
    pretraining: {epochs: 40}                             # overrides, for self-supervised pre-training only
    labeller: {loss_type: CE, train_rule: "None"}         # overrides, for the classifier that labels D_U
    semi: {batch_size: 256}                               # overrides, for the training with pseudo-labels
    axes:
      rule: {CE: {}, LDAM-DRW: {loss_type: LDAM, train_rule: DRW}}
      D_U: {none: {}, rho_U=1: {imb_factor_unlabel: 1}}
    published: [{at: {rule: CE, D_U: none}, error: 29.64}]
    shown: [{rule: CE, D_U: none}, {rule: CE, D_U: rho_U=1}]
    assumed_deviation: 0.8

An axis maps the names of its levels to options. A trial is one level of each axis
and a seed; an arm is all trials with the same levels. Options are those of
`longtail train` and `train_semi`, and three more: `pretraining_job`, the
self-supervised job that runs first; `classifier`, options of `train_classifier` for a
second stage; and `labeller`, which overrides the file's `labeller` at a level. A
trial whose options name an unlabeled part (imb_factor_unlabel or unlabeled) is
trained with pseudo-labels.

For the arms that match `shown`, the report draws the confusion matrices, the
accuracy per class and, for the first seed, a map of the test images' features.
Without `shown` it draws confusion and accuracy per class of the first arms.

`assumed_deviation` is how much a paired difference of balanced accuracy is thought
to vary between seeds, in points (standard deviation): `--dry_run` says with it which
differences the seeds can show, as long as there are no trials to measure it by.
"""

import itertools
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.base import fingerprint
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.packaged import read_yaml_model

PRETRAINING_JOB = "pretraining_job"
CLASSIFIER = "classifier"
LABELLER = "labeller"

Options = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Published(_Part):
    """A figure of the paper: its top-1 error in percent at these levels."""

    at: dict[str, str]
    error: float = Field(gt=0, lt=100)


class Experiment(_Part):
    """An experiment file."""

    title: str = Field(min_length=1)
    about: str = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    options: Options = {}
    pretraining: Options = {}
    labeller: Options = {}
    semi: Options = {}
    axes: dict[str, dict[str, Options]] = Field(min_length=1)
    published: tuple[Published, ...] = ()
    shown: tuple[dict[str, str], ...] = ()
    assumed_deviation: float | None = Field(None, gt=0, le=100)

    @model_validator(mode="after")
    def _seeds_differ(self) -> "Experiment":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: each seed may be listed only once")
        return self

    @model_validator(mode="after")
    def _axes_have_levels_and_set_different_options(self) -> "Experiment":
        set_by: dict[str, str] = {}
        for axis, levels in self.axes.items():
            if not levels:
                raise ValueError(f"axis {axis} has no level")
            for name in {name for options in levels.values() for name in options}:
                if name in set_by:
                    raise ValueError(f"axes {set_by[name]} and {axis} both set {name}: an option belongs to one axis")
                if name in ("seed", "exp_str"):
                    raise ValueError(f"axis {axis} sets {name}: list the trials' seeds under seeds")
                set_by[name] = axis
        return self

    @model_validator(mode="after")
    def _steps_of_trials_exist(self) -> "Experiment":
        levels = (options for axis in self.axes.values() for options in axis.values())
        for options in (self.options, *levels):
            if (job := options.get(PRETRAINING_JOB)) not in (None, *PRETRAININGS):
                guess = did_you_mean(str(job), PRETRAININGS)
                raise ValueError(f"{PRETRAINING_JOB} {job}: choose one of {', '.join(PRETRAININGS)}{guess}")
            if not isinstance(classifier := options.get(CLASSIFIER), dict | None):
                raise ValueError(f"{CLASSIFIER} must be options of train_classifier, got {classifier!r}")
            if not isinstance(labeller := options.get(LABELLER), dict | None):
                raise ValueError(f"{LABELLER} must be options of train, got {labeller!r}")
        return self

    @model_validator(mode="after")
    def _published_and_shown_levels_exist(self) -> "Experiment":
        named = [(f"published error {figure.error:g} is at", figure.at) for figure in self.published]
        for where, levels in [*named, *(("shown has", levels) for levels in self.shown)]:
            for axis, level in levels.items():
                if level not in self.axes.get(axis, {}):
                    guess = did_you_mean(level, self.axes[axis]) if axis in self.axes else did_you_mean(axis, self.axes)
                    raise ValueError(f"{where} {axis}: {level}, which no axis has{guess}")
        return self

    def trials(self) -> list["Trial"]:
        """All combinations of levels, the last axis changing fastest, each with all seeds."""
        trials = []
        for names in itertools.product(*self.axes.values()):
            levels = dict(zip(self.axes, names, strict=True))
            chosen = [self.axes[axis][name] for axis, name in levels.items()]
            options = {name: value for part in (self.options, *chosen) for name, value in part.items()}
            trials += [Trial(levels=levels, options={**options, "seed": seed}) for seed in self.seeds]
        return trials

    def published_error(self, levels: dict[str, str]) -> float | None:
        """The paper's error in percent at these levels; the figure that names the most of them takes precedence."""
        matching = [figure for figure in self.published if figure.at.items() <= levels.items()]
        return max(matching, key=lambda figure: len(figure.at)).error if matching else None


@dataclass(frozen=True)
class Trial:
    """One level of each axis, and the resulting options, including the seed."""

    levels: dict[str, str]
    options: Options

    @property
    def name(self) -> str:
        """The levels and the seed, for messages."""
        levels = ", ".join(f"{axis} {level}" for axis, level in self.levels.items())
        return f"{levels}, seed {self.options['seed']}"

    @property
    def trial_id(self) -> str:
        """Hash of levels and options: the same in every results table."""
        return fingerprint({"levels": self.levels, "options": self.options})

    @property
    def pretraining_job(self) -> str | None:
        """The self-supervised job that comes first, or None."""
        return self.options.get(PRETRAINING_JOB)

    @property
    def classifier(self) -> Options | None:
        """Options of train_classifier for a second stage, or None."""
        return self.options.get(CLASSIFIER)

    @property
    def labeller(self) -> Options:
        """Options that the classifier that labels D_U has of this trial alone."""
        return self.options.get(LABELLER) or {}

    @property
    def is_semi_supervised(self) -> bool:
        """Whether the options name an unlabeled part."""
        return any(self.options.get(name) is not None for name in ("imb_factor_unlabel", "unlabeled"))


def read_experiment(source: str | Location) -> Experiment:
    """Read an experiment: the name of a packaged one (conf/experiments/) or the path of a YAML or JSON file.

    Raises UserError for an experiment that does not exist or is not valid.
    """
    return read_yaml_model(Experiment, source, folder="experiments", kind="experiment")
