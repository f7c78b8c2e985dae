"""Training with pseudo-labels, and the pipeline that does all its steps."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from conf.options.base import JobOptions, option
from conf.options.training import SupervisedOptions, TrainOptions


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


class TrainSemiOptions(PseudoLabelOptions, TrainOptions):
    """train_semi: training on the labelled and the pseudo-labelled part together."""

    phase: ClassVar[str] = "train_semi"

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

    @model_validator(mode="before")
    @classmethod
    def _fixmatch_has_its_own_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("semi_method") == "fixmatch":
            return {"unlabeled_ratio": 7.0, "confidence_threshold": 0.95, **values}
        return values

    @model_validator(mode="after")
    def _fixmatch_makes_its_pseudo_labels_itself(self) -> "TrainSemiOptions":
        if self.semi_method == "fixmatch":
            if self.pseudo_labels is not None or self.rounds > 1 or self.pseudo_label_type == "soft":
                raise ValueError(
                    "--semi_method fixmatch makes its own hard pseudo-labels in every step: leave out "
                    "--pseudo_labels, --rounds and --pseudo_label_type"
                )
            if self.unlabeled_ratio is None:
                raise ValueError("--semi_method fixmatch needs --unlabeled_ratio")
        return self

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
