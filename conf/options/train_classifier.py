"""Options of the training of a new classifier on a frozen backbone."""

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from longtail.conf.base.locations import Location
from longtail.conf.base.user_code import short_name
from longtail.conf.options.base import option
from longtail.conf.options.location_types import FileLocation
from longtail.conf.options.training import BATCH_HELP, SupervisedOptions, TrainRule
from longtail.conf.vocabulary import TEST, TRAIN, VAL


class TrainClassifierOptions(SupervisedOptions):
    """train_classifier: a new classifier on the frozen backbone of a checkpoint.

    Data set and network are by default those of the checkpoint.
    """

    phase: ClassVar[str] = "classifier"
    own_defaults: ClassVar[frozenset[str]] = frozenset({"epochs"})
    examples = (
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar", "cRT, on the backbone that `longtail train` learned"),
        ("--resume runs/digits-*-train-CE-*/ckpt.pth.tar --method tau --tau_norm 1", "tau-normalisation, no learning"),
    )

    resume: FileLocation = option(
        ..., "checkpoint with the backbone, and for tau and LWS the classifier", group="Input", in_run_name=False
    )
    method: Literal["cRT", "tau", "LWS", "NCM"] = option(
        "cRT", "how the classifier is made (Kang et al. 2020)", group="Method"
    )
    tau_norm: float | None = option(
        None,
        "tau: the exponent of the weights' norms, unlike --tau, which is of a loss; default: the best of 0 to 2 on "
        "validation images (train with --val_fraction)",
        group="Method",
        ge=0,
    )
    kept_features: bool = option(
        False,
        "cRT, LWS: learn from features that are computed once without augmentation and kept beside the set, as train "
        "--tune head does; by default images are augmented anew in each epoch, as published",
        group="Method",
    )
    epochs: int = option(
        10, "epochs to train (cRT, LWS); tau and NCM learn nothing and need one pass", group="Optimisation", gt=0
    )
    batch_size: int = option(512, BATCH_HELP, group="Optimisation", flags=("-b",), gt=0)
    train_rule: TrainRule = option("ClassBalanced", "re-balancing by class sizes", group="Loss and re-balancing")

    def method_code(self) -> str:
        """Import path of the TrainingMethod."""
        return "longtail.training.classifier:ClassifierMethod"

    @property
    def feature_splits(self) -> tuple[str, ...]:
        """Of the images without augmentation: what tau is chosen on, what NCM takes the means of."""
        match self.method:
            case "tau":
                return (VAL,) if self.tau_norm is None else ()
            case "NCM":
                return (TRAIN,)
            case "cRT" | "LWS":
                return (TRAIN, VAL, TEST) if self.kept_features else ()

    @property
    def frozen_backbone(self) -> Location | None:
        """That of the checkpoint."""
        return self.resume

    @classmethod
    def implied_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """One epoch for the methods that learn nothing."""
        return {"epochs": 1} if values.get("method") in ("tau", "NCM") else {}

    @model_validator(mode="before")
    @classmethod
    def _one_pass_suffices_if_nothing_is_learned(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, **cls.implied_defaults(values)}

    @model_validator(mode="after")
    def _only_what_learns_has_a_choice_of_images(self) -> "TrainClassifierOptions":
        if self.kept_features and self.method in ("tau", "NCM"):
            raise ValueError(f"--method {self.method} always takes kept features: leave out --kept_features")
        return self

    @model_validator(mode="after")
    def _loss_fits_the_method(self) -> "TrainClassifierOptions":
        if self.method == "LWS" and self.loss_type == "LDAM":
            raise ValueError("LWS scales the outputs of a linear classifier, LDAM needs cosines: choose another loss")
        return self

    def _method(self) -> tuple[str, ...]:
        return (self.phase, self.method, short_name(self.loss_type), self.train_rule)
