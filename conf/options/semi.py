"""Options of training with unlabeled data, and of the pipeline of all steps."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from longtail.conf.base.locations import Location
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.base import JobOptions, one_of, option
from longtail.conf.options.training import BATCH_HELP, SupervisedOptions, TrainOptions


class PseudoLabelOptions(JobOptions):
    """How a training uses pseudo-labels."""

    unlabeled_weight: float = option(
        1.0, "omega: weight of the loss of a pseudo-labelled sample", group="Pseudo-labels", gt=0
    )
    confidence_threshold: tuple[float, ...] = option(
        (0.0,),
        "ignore pseudo-labels of lower confidence when training; one per class: 0.9,0.8,0.95 (--threshold of "
        "gen_pseudolabels leaves them out of its table)",
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
"""Generations (Wei et al. 2021, section 4.1)."""

ESTIMATED = "estimated"

SEMI_METHODS = {
    "pseudo_label": "longtail.training.pseudo_labels:PseudoLabelMethod",
    "fixmatch": "longtail.training.fixmatch:FixMatchMethod",
}
"""Methods of --semi_method: `module:class` of a TrainingMethod (training/method.py), by name."""


@dataclass(frozen=True)
class BalancingMethod:
    """A method of --balancing.

    code: `module:class` of the class, derived from FixMatch (training/semi/method.py)
    num_strong_views: strong views per unlabeled image in a step
    """

    code: str
    num_strong_views: int = 1


BALANCING = {
    "none": BalancingMethod("longtail.training.semi.method:FixMatch"),
    "DA": BalancingMethod("longtail.training.semi.alignment:DistributionAlignment"),
    "DARP": BalancingMethod("longtail.training.semi.darp:DistributionAligningRefinery"),
    "CReST+": BalancingMethod("longtail.training.semi.alignment:ProgressiveAlignment"),
    "ABC": BalancingMethod("longtail.training.semi.abc_head:AuxiliaryBalancedClassifier", num_strong_views=2),
    "DASO": BalancingMethod("longtail.training.semi.daso:SemanticPseudoLabels"),
}
"""Methods of --balancing, by name."""

Balancing = Annotated[str, one_of(BALANCING)]


class FixMatchOptions(JobOptions):
    """FixMatch and its extensions for imbalanced data (training/semi/); the defaults are those of the papers."""

    balancing: Balancing = option(
        "none",
        "extension of FixMatch for imbalanced data; DA: distribution alignment; CReST+: 6 --rounds by default",
        group="Method", choices=BALANCING,
    )  # fmt: skip
    ema_decay: float = option(
        0.999,
        "decay of the averaged weights, lower in the first steps; the averaged weights are evaluated, saved and used "
        "for pseudo-labels; 0: no average", group="Method", advanced=True, ge=0, lt=1,
    )  # fmt: skip
    strong_operations: int = option(
        2, "RandAugment: operations applied to a strong view", group="Method", advanced=True, gt=0, le=100
    )
    pseudo_label_tau: float = option(
        0.0, "subtract this times the log prior of the labelled classes from the logits of pseudo-labels",
        group="Method", advanced=True,
    )  # fmt: skip
    da_window: int = option(
        128, "DA, CReST+: steps in the running mean of predictions", group="Method", advanced=True, gt=0, le=100_000
    )
    darp_warmup: float = option(
        0.4, "DARP: share of the training before pseudo-labels are refined", group="Method", advanced=True, ge=0, le=1
    )
    darp_every: int = option(10, "DARP: steps between refinements", group="Method", advanced=True, gt=0)
    darp_rounds: int = option(
        10, "DARP: iterations of coordinate ascent per refinement", group="Method", advanced=True, gt=0
    )
    darp_delta: float = option(
        2.0, "DARP: predictions kept per class, as a multiple of the class's size", group="Method", advanced=True, gt=0
    )
    unlabeled_shares: tuple[float, ...] | Literal["estimated"] | None = option(
        None,
        "DARP: class shares of the unlabeled part, as 0.5,0.3,0.2; estimated: from the confusion on held-out images "
        "(--val_fraction) when refinement begins; default: those of the labelled part", group="Method", advanced=True,
    )  # fmt: skip
    crest_alpha: float = option(
        1 / 3, "CReST+: exponent of the classes' sampling rates", group="Method", advanced=True, ge=0
    )
    crest_t_min: float = option(
        0.5, "CReST+: temperature of the alignment in the last round", group="Method", advanced=True, ge=0, le=1
    )
    daso_warmup: float = option(
        0.02, "DASO: share of the training before blending begins", group="Method", advanced=True, ge=0, le=1
    )
    daso_queue: int = option(
        256,
        "DASO: labelled images per class whose mean feature is its prototype",
        group="Method",
        advanced=True,
        gt=0,
        le=100_000,
    )
    daso_t_proto: float = option(
        0.05, "DASO: temperature of the cosines to the prototypes", group="Method", advanced=True, gt=0
    )
    daso_t_dist: float = option(
        1.5,
        "DASO: temperature of the pseudo-label distribution in the blend; the paper uses 0.3 if the unlabeled part has "
        "other class shares than the labelled one", group="Method", advanced=True, gt=0,
    )  # fmt: skip
    daso_period: int = option(
        100, "DASO: steps over which the pseudo-label distribution is counted", group="Method", advanced=True, gt=0
    )
    daso_alignment: float = option(
        1.0, "DASO: weight of the semantic alignment loss", group="Method", advanced=True, ge=0
    )

    @field_validator("unlabeled_shares", mode="before")
    @classmethod
    def _shares_are_positive(cls, value: Any) -> tuple[float, ...] | str | None:
        if value in (None, ESTIMATED):
            return value
        parts = value.split(",") if isinstance(value, str) else value
        try:
            shares = tuple(map(float, parts))
        except (TypeError, ValueError, OverflowError):
            guess = did_you_mean(str(value), [ESTIMATED])
            raise ValueError(f"input should be numbers separated by commas, or {ESTIMATED}{guess}") from None
        if not shares or not all(share >= 0 for share in shares) or not sum(shares) > 0:
            raise ValueError("shares are 0 or more, and not all are 0")
        return shares

    @classmethod
    def own_fields(cls) -> list[str]:
        """Names of the options that only FixMatch has."""
        return [name for name in FixMatchOptions.model_fields if name not in JobOptions.model_fields]


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


class PipelineOptions(PseudoLabelOptions, SupervisedOptions):
    """pipeline: prepare, stats, train, gen_pseudolabels, train_semi and a comparison, with a live per-class table."""

    examples = (
        ("", "all steps on the digits of scikit-learn, in about a minute on a CPU"),
        ("--ssp --loss_type LDAM --train_rule DRW", "with self-supervised pre-training and LDAM-DRW"),
        ("--dataset cifar10 --world_size 2", "on CIFAR-10 with two ranks"),
    )

    imb_factor_unlabel: float | None = option(
        1.0,
        "smallest over largest unlabeled class, 1/rho_U; above 1 the tail is reversed",
        group="Unlabeled images",
        gt=0,
    )
    ssp: bool = option(False, "pre-train by rotation prediction first", group="Method")
    semi_epochs: int | None = option(None, "epochs of train_semi; default: --epochs", group="Optimisation", gt=0)
    semi_batch_size: int | None = option(
        None, "images per step of train_semi; default: twice --batch_size", group="Optimisation", gt=0
    )
