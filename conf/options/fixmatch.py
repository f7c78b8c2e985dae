"""Options of FixMatch and of its extensions for imbalanced data."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import field_validator

from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.options.base import JobOptions, one_of, option

ESTIMATED = "estimated"


@dataclass(frozen=True)
class BalancingMethod:
    """A method of --balancing.

    code: `module:class` of the class, derived from FixMatch (training/semi/fixmatch_base.py)
    num_strong_views: strong views per unlabeled image in a step
    """

    code: str
    num_strong_views: int = 1


BALANCING = {
    "none": BalancingMethod("longtail.training.semi.fixmatch_base:FixMatch"),
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
        0.0, "subtract this times the log prior of the labelled classes from the logits of pseudo-labels, as "
        "--logit_adjustment does from those of predictions",
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
