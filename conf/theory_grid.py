"""The parameter grid of `theory`: the points at which the three theorems are checked.

A grid file (conf/theory_grids/theorems.yaml) is a list of sweeps. A sweep gives each
parameter of its theorem a value or a list of values; its points are all
combinations. The theorems are those of Yang & Xu (NeurIPS 2020), sections 2 and 3.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from longtail.conf.packaged import read_yaml_model

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class T1Point(BaseModel):
    """Theorem 1, semi-supervised: two Gaussians N(mu1, sigma^2), N(mu2, sigma^2), and noisy pseudo-labels of samples.

    p, q: probability that a pseudo-positive (pseudo-negative) is correct; D = p - q
    num_unlabeled, rho_unlabeled: sum and ratio of the numbers of pseudo-positives and pseudo-negatives
    delta: distance between the learned threshold and its prediction from D
    """

    model_config = _FROZEN
    theorem: ClassVar[str] = "T1"

    mu1: float
    mu2: float
    sigma: float = Field(gt=0)
    p: float = Field(ge=0, le=1)
    q: float = Field(ge=0, le=1)
    num_unlabeled: int = Field(ge=2)
    rho_unlabeled: float = Field(gt=0)
    delta: float = Field(gt=0)

    @property
    def num_negative(self) -> int:
        """Unlabeled samples of the negative class."""
        return round(self.num_unlabeled / (1 + self.rho_unlabeled))

    @property
    def num_positive(self) -> int:
        """Unlabeled samples of the positive class."""
        return self.num_unlabeled - self.num_negative

    @property
    def difference(self) -> float:
        """D = p - q, caused by the imbalance of the labelled training set."""
        return self.p - self.q

    @model_validator(mode="after")
    def _both_classes_have_samples(self) -> "T1Point":
        if self.mu1 <= self.mu2:
            raise ValueError(f"mu1 ({self.mu1}) must be greater than mu2 ({self.mu2})")
        if not 0 < self.num_negative < self.num_unlabeled:
            raise ValueError(
                f"num_unlabeled {self.num_unlabeled} at rho_unlabeled {self.rho_unlabeled:g} leaves a class empty"
            )
        return self


class T2Point(BaseModel):
    """Theorem 2, standard training: linear classifiers f = sign(<t, X> + c) of two centred Gaussians.

    X ~ N(0, sigma^2 I) with probability p_positive, else N(0, b sigma^2 I).
    c <= 0 violates the theorem's condition; such points show whether the condition is needed.
    """

    model_config = _FROZEN
    theorem: ClassVar[str] = "T2"

    p_positive: float = Field(gt=0, le=0.5)
    b: float = Field(gt=3)
    sigma: float = Field(gt=0)
    t_norm: float = Field(gt=0)
    c: float


class T3Point(BaseModel):
    """Theorem 3, self-supervised feature Z = k1 |X|^2 + k2 of theorem 2's classes; f = sign(-Z + c), c from labels.

    num_positive, num_negative: labelled samples of each class
    epsilon: the free parameter of the bound
    """

    model_config = _FROZEN
    theorem: ClassVar[str] = "T3"

    dimension: int = Field(ge=1)
    p_positive: float = Field(gt=0, le=0.5)
    b: float = Field(gt=3)
    sigma: float = Field(gt=0)
    k1: float = Field(gt=0)
    k2: float = Field(gt=0)
    num_positive: int = Field(ge=1)
    num_negative: int = Field(ge=1)
    epsilon: float = Field(gt=0)

    @model_validator(mode="after")
    def _epsilon_is_in_range(self) -> "T3Point":
        largest = (self.b - 1) / (self.b + 1)
        if self.epsilon >= largest:
            raise ValueError(f"epsilon ({self.epsilon}) must be less than (b-1)/(b+1) = {largest:.4g}")
        return self


Point = T1Point | T2Point | T3Point
POINT_TYPES: dict[str, type[Point]] = {"T1": T1Point, "T2": T2Point, "T3": T3Point}
PLOT_THEOREMS = {"threshold_bias": "T1", "unlabeled_imbalance": "T1", "dimension": "T3"}


class Sweep(BaseModel):
    """Points of one theorem, each simulated `repetitions` times, and the plot that shows them."""

    model_config = _FROZEN

    name: str = Field(min_length=1)
    theorem: Literal["T1", "T2", "T3"]
    repetitions: int = Field(ge=2)
    plot: Literal["threshold_bias", "unlabeled_imbalance", "dimension"] | None = None
    parameters: dict[str, Any]

    @model_validator(mode="after")
    def _points_are_valid(self) -> "Sweep":
        if self.plot is not None and PLOT_THEOREMS[self.plot] != self.theorem:
            raise ValueError(f"plot {self.plot} shows {PLOT_THEOREMS[self.plot]}, not {self.theorem}")
        if not list(self.points()):
            raise ValueError("the sweep has no point: every parameter needs a value")
        return self

    def points(self) -> Iterator[Point]:
        """Yield all combinations of the parameters' values, the last parameter changing fastest."""
        choices = [value if isinstance(value, list) else [value] for value in self.parameters.values()]
        for values in itertools.product(*choices):
            yield POINT_TYPES[self.theorem](**dict(zip(self.parameters, values, strict=True)))


class TheoryGrid(BaseModel):
    """A grid file."""

    model_config = _FROZEN

    sweeps: list[Sweep] = Field(min_length=1)

    @model_validator(mode="after")
    def _sweep_names_are_unique(self) -> "TheoryGrid":
        names = [sweep.name for sweep in self.sweeps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sweep names must be unique; used twice: {', '.join(twice)}")
        return self


def read_grid(source: str | Path) -> TheoryGrid:
    """Read a grid: the name of a packaged one (conf/theory_grids/) or the path of a YAML file.

    Raises UserError for a grid that does not exist or is not valid.
    """
    return read_yaml_model(TheoryGrid, source, folder="theory_grids", kind="grid")
