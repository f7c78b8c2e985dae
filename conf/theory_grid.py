"""The parameter grid of `theory`: which points of the three theorems are checked.

A grid file (conf/experiments/theory.yaml) is a list of sweeps. A sweep gives each
parameter of its theorem a value or a list of values; its points are all
combinations. The theorems are those of Yang & Xu (NeurIPS 2020), sections 2 and 3.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from longtail.conf.base.errors import UserError

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class T1Point(BaseModel):
    """Semi-supervised: two Gaussians N(mu1, sigma^2), N(mu2, sigma^2), and pseudo-labels that are right with p and q.

    p, q: probability that a pseudo-positive (pseudo-negative) is one; D = p - q.
    rho_unlabeled: pseudo-positives over pseudo-negatives; their sum is num_unlabeled.
    delta: distance of the learned threshold from where D puts it.
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
        return round(self.num_unlabeled / (1 + self.rho_unlabeled))

    @property
    def num_positive(self) -> int:
        return self.num_unlabeled - self.num_negative

    @property
    def difference(self) -> float:
        """D, which the imbalance of the labelled training set causes."""
        return self.p - self.q

    @model_validator(mode="after")
    def _classes_are_two(self) -> "T1Point":
        if self.mu1 <= self.mu2:
            raise ValueError(f"mu1 ({self.mu1}) must lie above mu2 ({self.mu2})")
        if not 0 < self.num_negative < self.num_unlabeled:
            raise ValueError(
                f"num_unlabeled {self.num_unlabeled} at rho_unlabeled {self.rho_unlabeled:g} leaves a class empty"
            )
        return self


class T2Point(BaseModel):
    """Standard training: N(0, sigma^2 I) with p_positive, N(0, b sigma^2 I) else, and f = sign(<t, X> + c).

    c <= 0 is outside the theorem: such points show whether its condition is needed.
    """

    model_config = _FROZEN
    theorem: ClassVar[str] = "T2"

    p_positive: float = Field(gt=0, le=0.5)
    b: float = Field(gt=3)
    sigma: float = Field(gt=0)
    t_norm: float = Field(gt=0)
    c: float


class T3Point(BaseModel):
    """Self-supervised feature Z = k1 |X|^2 + k2 of T2's classes; f = sign(-Z + c), c from labelled samples.

    num_positive, num_negative: labelled samples of each class. epsilon: the free parameter of the bound.
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
            raise ValueError(f"epsilon ({self.epsilon}) must lie below (b-1)/(b+1) = {largest:.4g}")
        return self


Point = T1Point | T2Point | T3Point
POINT_TYPES: dict[str, type[Point]] = {"T1": T1Point, "T2": T2Point, "T3": T3Point}
PLOT_THEOREMS = {"threshold_bias": "T1", "unlabeled_imbalance": "T1", "dimension": "T3"}


class Sweep(BaseModel):
    """Some points of one theorem, each simulated `repetitions` times, and the plot that shows them."""

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
            raise ValueError("there is no point: each parameter needs a value")
        return self

    def points(self) -> Iterator[Point]:
        """All combinations of the parameters' values, the last one changing fastest."""
        choices = [value if isinstance(value, list) else [value] for value in self.parameters.values()]
        for values in itertools.product(*choices):
            yield POINT_TYPES[self.theorem](**dict(zip(self.parameters, values, strict=True)))


class TheoryGrid(BaseModel):
    """A grid file."""

    model_config = _FROZEN

    sweeps: list[Sweep] = Field(min_length=1)

    @model_validator(mode="after")
    def _sweeps_are_told_apart(self) -> "TheoryGrid":
        names = [sweep.name for sweep in self.sweeps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each sweep needs a name of its own; twice there is {', '.join(twice)}")
        return self


def read_grid(path: Path) -> TheoryGrid:
    """Raises UserError (one line) for a file that is not a grid."""
    try:
        return TheoryGrid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read the grid {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(_describe(detail) for detail in error.errors())}") from None


def _describe(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    message = " ".join(detail["msg"].removeprefix("Value error, ").split())
    shown = "" if isinstance(detail["input"], dict | BaseModel) else f" {detail['input']!r}"
    return f"{place}{shown}: {message[0].lower()}{message[1:]}" if place else message
