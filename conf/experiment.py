"""An experiment file: the grid of trials that `experiment` runs.

    title: What unlabeled data adds at rho = 100
    seeds: [0, 1, 2]
    options: {dataset: cifar10, n_max: 500, epochs: 60}   # of every training
    pretraining: {epochs: 40}                             # on top, of the self-supervised steps alone
    labeller: {loss_type: CE, train_rule: "None"}         # on top, of the classifier that labels D_U
    semi: {batch_size: 256}                               # on top, of the training with pseudo-labels
    axes:
      rule: {CE: {}, LDAM-DRW: {loss_type: LDAM, train_rule: DRW}}
      D_U: {none: {}, rho_U=1: {imb_factor_unlabel: 1}}
    published: [{at: {rule: CE, D_U: none}, error: 29.64}]
    shown: [{rule: CE, D_U: none}, {rule: CE, D_U: rho_U=1}]

An axis gives each of its levels a name and options; a trial is one level of each
axis and a seed. Options are those of `longtail train` and `train_semi`, and two
more: `pretraining_job`, the self-supervised job that comes first, and `classifier`,
options of `train_classifier` for a second stage. A trial whose options name an
unlabeled part (imb_factor_unlabel or unlabeled) is trained with pseudo-labels. Of
the arms with the levels under `shown` the report has the confusion, the classes and,
of their first seed, a map of the test images' features; without it, of the first
arms the confusion and the classes.
"""

import itertools
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from longtail.conf.base.errors import UserError
from longtail.conf.options.base import fingerprint
from longtail.conf.vocabulary import PRETRAINING_PHASES

PRETRAINING_JOB = "pretraining_job"
CLASSIFIER = "classifier"

Options = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Published(_Part):
    """A figure of the paper: at these levels, its top-1 error in %."""

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

    @model_validator(mode="after")
    def _seeds_are_told_apart(self) -> "Experiment":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: each may be there once")
        return self

    @model_validator(mode="after")
    def _axes_are_filled_and_set_other_options(self) -> "Experiment":
        set_by: dict[str, str] = {}
        for axis, levels in self.axes.items():
            if not levels:
                raise ValueError(f"axis {axis} has no level")
            for name in {name for options in levels.values() for name in options}:
                if name in set_by:
                    raise ValueError(f"axes {set_by[name]} and {axis} both set {name}: one axis an option")
                if name in ("seed", "exp_str"):
                    raise ValueError(f"axis {axis} sets {name}: the trials' seeds are listed under seeds")
                set_by[name] = axis
        return self

    @model_validator(mode="after")
    def _published_figures_are_at_levels(self) -> "Experiment":
        for figure in self.published:
            for axis, level in figure.at.items():
                if level not in self.axes.get(axis, {}):
                    raise ValueError(f"published error {figure.error:g} is at {axis}: {level}, which no axis has")
        return self

    @model_validator(mode="after")
    def _shown_arms_are_at_levels(self) -> "Experiment":
        for levels in self.shown:
            for axis, level in levels.items():
                if level not in self.axes.get(axis, {}):
                    raise ValueError(f"shown has {axis}: {level}, which no axis has")
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
        """The paper's error in % at these levels; of several figures, the one that names the most of them."""
        fitting = [figure for figure in self.published if figure.at.items() <= levels.items()]
        return max(fitting, key=lambda figure: len(figure.at)).error if fitting else None


class Trial(_Part):
    """One level of each axis, and the options that come of them, seed included."""

    levels: dict[str, str]
    options: Options

    @property
    def name(self) -> str:
        levels = ", ".join(f"{axis} {level}" for axis, level in self.levels.items())
        return f"{levels}, seed {self.options['seed']}"

    @property
    def trial_id(self) -> str:
        return fingerprint({"levels": self.levels, "options": self.options})

    @property
    def pretraining_job(self) -> str | None:
        return self.options.get(PRETRAINING_JOB)

    @property
    def classifier(self) -> Options | None:
        return self.options.get(CLASSIFIER)

    @property
    def is_semi_supervised(self) -> bool:
        return any(self.options.get(name) is not None for name in ("imb_factor_unlabel", "unlabeled"))

    @model_validator(mode="after")
    def _steps_are_known(self) -> "Trial":
        if self.pretraining_job not in (None, *PRETRAINING_PHASES):
            raise ValueError(f"{PRETRAINING_JOB} {self.pretraining_job}: choose one of {', '.join(PRETRAINING_PHASES)}")
        if not isinstance(self.classifier, dict | None):
            raise ValueError(f"{CLASSIFIER} must be options of train_classifier, it is {self.classifier!r}")
        return self


def read_experiment(path: Path) -> Experiment:
    """Raises UserError (one line) for a file that is not an experiment."""
    try:
        experiment = Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        experiment.trials()
    except OSError as error:
        raise UserError(f"cannot read the experiment {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        details = error.errors()
        places = (".".join(map(str, detail["loc"])) for detail in details)
        messages = (detail["msg"].removeprefix("Value error, ") for detail in details)
        raise UserError(f"{path}: " + "; ".join(map(_described, places, messages))) from None
    return experiment


def _described(place: str, message: str) -> str:
    return f"{place}: {message}" if place else message
