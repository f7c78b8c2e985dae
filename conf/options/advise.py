"""Advice on a user's own data."""

from pathlib import Path
from typing import ClassVar

from pydantic import FilePath, field_validator, model_validator

from longtail.conf.options.base import option
from longtail.conf.options.training import SupervisedOptions


class AdviseOptions(SupervisedOptions):
    """advise: what unlabeled data and self-supervised pre-training are likely to add to a labelled set."""

    own_defaults: ClassVar[frozenset[str]] = frozenset({"val_fraction"})
    examples = (
        ("--imb_factor_unlabel 1", "the digits, with an unlabeled part of known classes"),
        ("--labelled my_images --unlabeled more_images", "a directory with one folder per class, and one without"),
    )

    labelled: Path | None = option(
        None,
        "labelled images: a directory with one folder per class, a Parquet or Delta table, or a prepared set; instead "
        "of --dataset", group="Input",
    )  # fmt: skip
    resume: FilePath | None = option(
        None, "checkpoint of a classifier trained with --val_fraction; default: train one", group="Input"
    )
    val_fraction: float = option(
        0.2, "share of each labelled class held out from training, to measure the classifier's errors",
        group="Long tail", ge=0, lt=1,
    )  # fmt: skip
    output_dir: Path | None = option(
        None, "directory to write to; default: advice/ beside the checkpoint", group="Output"
    )

    @field_validator("labelled")
    @classmethod
    def _labelled_images_are_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("there is no such directory or file")
        return value

    @model_validator(mode="after")
    def _something_is_held_out(self) -> "AdviseOptions":
        if self.val_fraction == 0:
            raise ValueError(
                "how the classifier errs is measured on labelled images that it did not learn from: give "
                "--val_fraction (0.2), with --resume a checkpoint that was trained with it"
            )
        return self

    @model_validator(mode="after")
    def _there_is_an_unlabeled_part(self) -> "AdviseOptions":
        if self.imb_factor_unlabel is None and self.unlabeled is None:
            raise ValueError("--unlabeled is required: the unlabeled images (or --imb_factor_unlabel)")
        return self
