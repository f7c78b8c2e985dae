"""Options of the labelled class sizes."""

import re
from typing import Literal, Self

from pydantic import field_validator, model_validator

from longtail.conf.options.base import option
from longtail.conf.options.source import SourceOptions


class LongTailOptions(SourceOptions):
    """How many labelled images each class has."""

    imb_type: Literal["exp", "step", "pareto", "natural"] = option(
        "exp", "profile of the labelled class sizes; natural keeps all training images", group="Long tail"
    )
    imb_factor: float = option(
        0.01, "ratio of the smallest to the largest labelled class (1/rho; 0.01 is 100:1)", group="Long tail", gt=0
    )
    n_max: int = option(5000, "labelled images of the largest class", group="Long tail", gt=0)
    val_fraction: float = option(
        0.0, "share of each labelled class held out for validation",
        group="Long tail", ge=0, lt=1,
    )  # fmt: skip
    counts: str | None = option(
        None, "labelled images of each class in the order of the labels, as 50,30,10; replaces the profile",
        group="Long tail", advanced=True,
    )  # fmt: skip
    rand_number: int = option(0, "seed of the data selection (a training has --seed)", group="Long tail", advanced=True)
    many_shot: int = option(
        100, "classes with more training images than this are many-shot", group="Long tail", advanced=True, ge=0
    )
    few_shot: int = option(
        20, "classes with fewer training images than this are few-shot", group="Long tail", advanced=True, ge=0
    )

    @field_validator("imb_factor")
    @classmethod
    def _imb_factor_is_no_rho(cls, value: float) -> float:
        if value > 1:
            raise ValueError(
                f"it is at most 1, the smallest class over the largest: for rho = {value:g} give {1 / value:g}"
            )
        return value

    @field_validator("counts")
    @classmethod
    def _counts_are_numbers(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9]+(,[0-9]+)+", value):
            raise ValueError("give at least two numbers, separated by commas: 50,30,10")
        return value

    @model_validator(mode="after")
    def _shot_groups_are_ordered(self) -> Self:
        if self.few_shot > self.many_shot + 1:
            raise ValueError(f"--few_shot {self.few_shot} must be at most --many_shot {self.many_shot} + 1")
        return self

    def class_sizes(self) -> list[int] | None:
        """The class sizes in --counts."""
        return None if self.counts is None else [int(count) for count in self.counts.split(",")]
