"""Options of training with unlabeled data."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.options.base import JobOptions, one_of, option
from longtail.conf.options.fixmatch import BALANCING, ESTIMATED, FixMatchOptions
from longtail.conf.options.training import BATCH_HELP, TrainOptions
from longtail.conf.vocabulary import UNLABELED


class PseudoLabelOptions(JobOptions):
    """How a training uses pseudo-labels."""

    unlabeled_weight: float = option(
        1.0, "omega: weight of the loss of a pseudo-labelled sample", group="Pseudo-labels", gt=0
    )
    confidence_threshold: tuple[float, ...] = option(
        (0.0,),
        "leave out pseudo-labels of lower confidence, as gen_pseudolabels --threshold does; one number, or one per "
        "class: 0.9,0.8,0.95",
        group="Pseudo-labels",
    )  # fmt: skip
    pseudo_label_type: Literal["hard", "soft"] = option(
        "hard", "learn the most likely class of an unlabeled image, or the probabilities of all classes",
        group="Pseudo-labels",
    )  # fmt: skip
    unlabeled_ratio: float | None = option(
        None,
        "unlabeled images per labelled image of a step, in a separate batch; default: both share batches",
        group="Pseudo-labels", gt=0, le=1000,
    )  # fmt: skip
    class_counts: Literal["all", "labelled"] = option(
        "all", "class sizes for the loss and --train_rule: with (all) or without (labelled) pseudo-labelled images",
        group="Pseudo-labels", advanced=True,
    )  # fmt: skip
    rounds: int = option(
        1, "rounds of self-training; each learns the pseudo-labels of the one before", group="Pseudo-labels",
        in_run_name=False, gt=0,
    )  # fmt: skip

    @field_validator("confidence_threshold", mode="before")
    @classmethod
    def _thresholds_are_shares(cls, value: Any) -> tuple[float, ...]:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        try:
            thresholds = tuple(map(float, parts))
        except (TypeError, ValueError, OverflowError):
            raise ValueError("input should be a number, or numbers separated by commas") from None
        if not thresholds or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError("a threshold is a number from 0 to 1")
        return thresholds


CREST_ROUNDS = 6
"""The generations of Wei et al. 2021, section 4.1."""

SEMI_METHODS = {
    "pseudo_label": "longtail.training.pseudo_labels:PseudoLabelMethod",
    "fixmatch": "longtail.training.fixmatch:FixMatchMethod",
}
"""Methods of --semi_method: `module:class` of a TrainingMethod (training/method.py), by name."""


class TrainSemiOptions(FixMatchOptions, PseudoLabelOptions, TrainOptions):
    """train_semi: training on the labelled and the unlabeled part together."""

    phase: ClassVar[str] = "train_semi"
    examples = (
        ("--imb_factor_unlabel 1", "on the digits, with the pseudo-labels of `longtail gen_pseudolabels`"),
        (
            "--imb_factor_unlabel 1 --semi_method fixmatch --balancing DARP",
            "FixMatch with DARP, which makes its pseudo-labels in training",
        ),
    )

    batch_size: int = option(256, BATCH_HELP, group="Optimisation", flags=("-b",), gt=0)
    semi_method: Annotated[str, one_of(SEMI_METHODS)] = option(
        "pseudo_label",
        "learn pseudo-labels made beforehand, or make them in every step (fixmatch; by default with --unlabeled_ratio "
        "7 and --confidence_threshold 0.95)", group="Method", choices=SEMI_METHODS,
    )  # fmt: skip
    pseudo_labels: Location | None = option(
        None,
        "table of gen_pseudolabels (default: the one for this data set), or a file in the published layout",
        group="Pseudo-labels", in_run_name=False,
    )  # fmt: skip

    @property
    def needs_pseudo_labels(self) -> bool:
        """Whether the training needs pseudo-labels made beforehand."""
        return self.semi_method == "pseudo_label" and not self.evaluate

    @property
    def num_strong_views(self) -> int:
        """Strong views per unlabeled image in a step of FixMatch."""
        return BALANCING[self.balancing].num_strong_views

    def method_code(self) -> str:
        """Import path of the TrainingMethod."""
        return SEMI_METHODS[self.semi_method]

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """As of a supervised training, and the images with pseudo-labels."""
        found = super().feature_splits
        return (*found, UNLABELED) if found else ()

    @classmethod
    def implied_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The defaults of FixMatch and CReST+, which the papers state."""
        if values.get("semi_method") != "fixmatch":
            return {}
        rounds = {"rounds": CREST_ROUNDS} if values.get("balancing") == "CReST+" else {}
        return {"unlabeled_ratio": 7.0, "confidence_threshold": 0.95, **rounds}

    @model_validator(mode="before")
    @classmethod
    def _fixmatch_has_its_own_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**cls.implied_defaults(values), **values}

    @model_validator(mode="after")
    def _method_and_its_options_fit(self) -> "TrainSemiOptions":
        if self.semi_method == "fixmatch":
            if self.tune == "head":
                raise ValueError(
                    "--tune head learns from features that are computed once, --semi_method fixmatch from new views "
                    "in every step: choose --tune last_1, or --semi_method pseudo_label"
                )
            by_generations = self.balancing == "CReST+"
            if self.pseudo_label_type == "soft" or (
                not by_generations and (self.pseudo_labels is not None or self.rounds > 1)
            ):
                raise ValueError(
                    "--semi_method fixmatch makes its own hard pseudo-labels in every step: leave out "
                    "--pseudo_labels, --rounds (both are for --balancing CReST+) and --pseudo_label_type"
                )
            if self.pseudo_labels is not None and self.pseudo_labels.is_file():
                raise ValueError(f"--balancing CReST+ needs confidences, {self.pseudo_labels} has none: give a table")
            if self.unlabeled_shares == ESTIMATED and self.val_fraction == 0:
                raise ValueError("--unlabeled_shares estimated needs held-out images: give --val_fraction")
            if self.unlabeled_ratio is None:
                raise ValueError("--semi_method fixmatch needs --unlabeled_ratio")
        elif given := sorted(
            n for n in FixMatchOptions.own_fields() if getattr(self, n) != FixMatchOptions.model_fields[n].default
        ):
            raise ValueError(f"--{given[0]} is for --semi_method fixmatch")
        return self

    def _method(self) -> tuple[str, ...]:
        if self.balancing == "none":
            return super()._method()
        # With CReST+, the alignment of a round depends on the number of rounds.
        rounds = f"{self.rounds}" if self.balancing == "CReST+" else ""
        return (*super()._method(), f"{self.balancing}{rounds}")

    @field_validator("pseudo_labels")
    @classmethod
    def _pseudo_labels_are_there(cls, value: Location | None) -> Location | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such table or file")
        return value

    @model_validator(mode="after")
    def _files_without_probabilities_suffice(self) -> "TrainSemiOptions":
        if self.pseudo_labels is not None and self.pseudo_labels.is_file():
            if any(self.confidence_threshold):
                raise ValueError(
                    f"{self.pseudo_labels} has no confidences: leave out --confidence_threshold, or give a table"
                )
            if self.pseudo_label_type == "soft":
                raise ValueError(f"{self.pseudo_labels} has no probabilities: --pseudo_label_type soft needs a table")
        return self

    @model_validator(mode="after")
    def _there_is_an_unlabeled_part(self) -> "TrainSemiOptions":
        if self.imb_factor_unlabel is None and self.unlabeled is None and not self.evaluate:
            raise ValueError("--imb_factor_unlabel is required: 1/rho_U of the unlabeled part (or --unlabeled)")
        return self
