"""Training with pseudo-labels, and the pipeline that does all its steps."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from longtail.conf.options.base import JobOptions, option
from longtail.conf.options.training import SupervisedOptions, TrainOptions
from longtail.conf.vocabulary import Phase


class PseudoLabelOptions(JobOptions):
    """How pseudo-labels enter a training."""

    unlabeled_weight: float = option(1.0, "omega: weight of a pseudo-labelled sample", gt=0)
    confidence_threshold: tuple[float, ...] = option(
        (0.0,), "drop pseudo-labels of lower confidence: one threshold, or one of each pseudo-label as 0.9,0.8,0.95"
    )
    pseudo_label_type: Literal["hard", "soft"] = option(
        "hard", "learn the likeliest class of an unlabeled image, or the probabilities of all classes"
    )
    unlabeled_ratio: float | None = option(
        None, "pseudo-labelled images a step for each labelled one, in a batch of their own beside --batch_size "
        "labelled ones, --unlabeled_weight between the two losses; without it all are shuffled together", gt=0,
    )  # fmt: skip
    class_counts: Literal["all", "labelled"] = option(
        "all", "class sizes that the loss and --train_rule go by: with the pseudo-labelled samples or without"
    )
    rounds: int = option(1, "self-training: each further round learns the pseudo-labels of the one before", gt=0)

    @field_validator("confidence_threshold", mode="before")
    @classmethod
    def _thresholds_are_shares(cls, value: Any) -> tuple[float, ...]:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        try:
            thresholds = tuple(map(float, parts))
        except (TypeError, ValueError):
            raise ValueError("input should be a number, or numbers with commas between them") from None
        if not thresholds or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError("a threshold lies in 0..1")
        return thresholds


CREST_ROUNDS = 6
"""Generations (Wei et al. 2021, section 4.1)."""

ESTIMATED = "estimated"

Balancing = Literal["none", "DA", "DARP", "CReST+", "ABC", "DASO"]


class FixMatchOptions(JobOptions):
    """FixMatch, and the methods on top of it for imbalanced data (training/semi/); the defaults are their papers'."""

    ema_decay: float = option(
        0.999, "decay of the average of the weights that is measured and kept, lower in the first steps; 0: no average",
        ge=0, lt=1,
    )  # fmt: skip
    weak_views: Literal["joint", "apart"] = option(
        "joint", "unlabeled weak views in one batch with all others, as published; or in a pass of their own without "
        "gradients, which takes less time: batch norm then sees them by themselves",
    )  # fmt: skip
    strong_operations: int = option(2, "operations of RandAugment, one after the other, on a strong view", gt=0)
    pseudo_label_tau: float = option(
        0.0, "lower the logits that pseudo-labels are made of by this times the log prior of the labelled classes"
    )
    balancing: Balancing = option(
        "none", "what is done about imbalance: distribution alignment (DA), DARP, CReST+ (by default 6 --rounds), an "
        "auxiliary balanced classifier (ABC), DASO",
    )  # fmt: skip
    da_window: int = option(128, "DA, CReST+: steps over whose predictions the running mean goes", gt=0)
    darp_warmup: float = option(0.4, "DARP: share of the training before pseudo-labels are refined", ge=0, le=1)
    darp_every: int = option(10, "DARP: steps from one solution of its problem to the next", gt=0)
    darp_rounds: int = option(10, "DARP: rounds of coordinate ascent of a solution", gt=0)
    darp_delta: float = option(2.0, "DARP: entries of a class that are kept, as a multiple of the class's size", gt=0)
    unlabeled_shares: tuple[float, ...] | Literal["estimated"] | None = option(
        None,
        "DARP: shares of the unlabeled classes where they are known, as 0.5,0.3,0.2; `estimated`: by how the held-out "
        "images (--val_fraction) are mistaken when refining begins; by default the labelled ones'",
    )
    crest_alpha: float = option(1 / 3, "CReST+: exponent of the rates at which classes' pseudo-labels are taken", ge=0)
    crest_t_min: float = option(0.5, "CReST+: power of the labelled shares in the last round's alignment", ge=0, le=1)
    daso_warmup: float = option(0.02, "DASO: share of the training with FixMatch's own pseudo-labels", ge=0, le=1)
    daso_queue: int = option(256, "DASO: labelled images of a class whose mean feature is its prototype", gt=0)
    daso_t_proto: float = option(0.05, "DASO: temperature of the cosines to the prototypes", gt=0)
    daso_t_dist: float = option(
        1.5, "DASO: temperature of the pseudo-labels' shares in the blend; the paper has 0.3 where the unlabeled "
        "part has other shares than the labelled one", gt=0,
    )  # fmt: skip
    daso_period: int = option(100, "DASO: steps over which the pseudo-labels' shares are counted", gt=0)
    daso_alignment: float = option(1.0, "DASO: weight of the semantic alignment loss", ge=0)

    @field_validator("unlabeled_shares", mode="before")
    @classmethod
    def _shares_are_positive(cls, value: Any) -> tuple[float, ...] | str | None:
        if value in (None, ESTIMATED):
            return value
        parts = value.split(",") if isinstance(value, str) else value
        try:
            shares = tuple(map(float, parts))
        except (TypeError, ValueError):
            raise ValueError(f"input should be numbers with commas between them, or {ESTIMATED}") from None
        if not shares or not all(share >= 0 for share in shares) or not sum(shares) > 0:
            raise ValueError("shares are 0 or more, and not all are 0")
        return shares

    @classmethod
    def own_fields(cls) -> list[str]:
        return [name for name in FixMatchOptions.model_fields if name not in JobOptions.model_fields]


class TrainSemiOptions(FixMatchOptions, PseudoLabelOptions, TrainOptions):
    """train_semi: training on the labelled and the pseudo-labelled part together."""

    phase: ClassVar[Phase] = "train_semi"

    batch_size: int = option(256, "images a step, over all ranks together", flags=("-b", "--batch-size"), gt=0)
    semi_method: Literal["pseudo_label", "fixmatch"] = option(
        "pseudo_label", "learn pseudo-labels that were made before, or make them in every step (FixMatch; by default "
        "with --unlabeled_ratio 7 and --confidence_threshold 0.95)",
    )  # fmt: skip
    pseudo_labels: Path | None = option(
        None,
        "table written by gen_pseudolabels, or a file laid out as pseudo_labeled_cifar.pickle; by default its table",
    )

    @property
    def needs_pseudo_labels(self) -> bool:
        """Whether there must be pseudo-labels before the training."""
        return self.semi_method == "pseudo_label"

    @property
    def num_strong_views(self) -> int:
        """Of an unlabeled image in a step of FixMatch; ABC has two (Lee et al. 2021)."""
        return 2 if self.balancing == "ABC" else 1

    @model_validator(mode="before")
    @classmethod
    def _fixmatch_has_its_own_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("semi_method") == "fixmatch":
            rounds = {"rounds": CREST_ROUNDS} if values.get("balancing") == "CReST+" else {}
            return {"unlabeled_ratio": 7.0, "confidence_threshold": 0.95, **rounds, **values}
        return values

    @model_validator(mode="after")
    def _fixmatch_makes_its_pseudo_labels_itself(self) -> "TrainSemiOptions":
        if self.semi_method == "fixmatch":
            by_generations = self.balancing == "CReST+"
            if self.pseudo_label_type == "soft" or (
                not by_generations and (self.pseudo_labels is not None or self.rounds > 1)
            ):
                raise ValueError(
                    "--semi_method fixmatch makes its own hard pseudo-labels in every step: leave out "
                    "--pseudo_labels, --rounds (both are for --balancing CReST+) and --pseudo_label_type"
                )
            if self.pseudo_labels is not None and self.pseudo_labels.is_file():
                raise ValueError(f"--balancing CReST+ needs confidences, {self.pseudo_labels} has none: name a table")
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
        # Of CReST+ a round's alignment depends on how many there are.
        rounds = f"{self.rounds}" if self.balancing == "CReST+" else ""
        return (*super()._method(), f"{self.balancing}{rounds}")

    @field_validator("pseudo_labels")
    @classmethod
    def _pseudo_labels_are_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such table or file")
        return value

    @model_validator(mode="after")
    def _what_needs_probabilities_has_them(self) -> "TrainSemiOptions":
        if self.pseudo_labels is not None and self.pseudo_labels.is_file():
            if any(self.confidence_threshold):
                raise ValueError(
                    f"{self.pseudo_labels} has no confidences: leave out --confidence_threshold, or name a table"
                )
            if self.pseudo_label_type == "soft":
                raise ValueError(f"{self.pseudo_labels} has no probabilities: --pseudo_label_type soft needs a table")
        return self

    @model_validator(mode="after")
    def _there_is_an_unlabeled_part(self) -> "TrainSemiOptions":
        if self.imb_factor_unlabel is None and self.unlabeled is None:
            raise ValueError("--imb_factor_unlabel is required: 1/rho_U of the unlabeled part (or --unlabeled)")
        return self


class PipelineOptions(PseudoLabelOptions, SupervisedOptions):
    """pipeline: prepare, stats, train, gen_pseudolabels, train_semi, compare; with a live per-class table."""

    imb_factor_unlabel: float | None = option(
        1.0, "1/rho_U of the unlabeled part; above 1 the labelled head is its tail", gt=0
    )
    semi_epochs: int | None = option(None, "epochs of train_semi; by default those of --epochs", gt=0)
    semi_batch_size: int | None = option(None, "images a step of train_semi; by default twice --batch_size", gt=0)
    ssp: bool = option(False, "pre-train by rotation prediction first")
