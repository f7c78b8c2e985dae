"""Reads result.json, the scores of a finished run (training/run_result.py makes them)."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location

RESULT_FILE = "result.json"


@dataclass
class _Confusion:
    target: list[int]
    predicted: list[int]
    count: list[int]


@dataclass
class _Scores:
    """What is shown of a split; the file has more."""

    accuracy: float | None
    balanced_accuracy: float | None
    many_shot_accuracy: float | None
    medium_shot_accuracy: float | None
    few_shot_accuracy: float | None
    class_accuracy: list[float | None]
    macro_f1: float | None
    totals: dict[str, list[float]]
    top5_accuracy: float | None = None
    expected_calibration_error: float | None = None
    confusion: _Confusion | None = None


@dataclass
class _Copies:
    """A row of Manifest.copies."""

    split: str
    of: str
    kind: str
    num_images: int
    num_conflicts: int
    left_out: bool


@dataclass
class _Result:
    run: str
    phase: str
    epoch: int
    class_names: list[str]
    class_counts: list[int]
    pseudo_label_round: int
    shot_groups: list[str]
    best_on_validation: dict[str, Any] | None
    chosen_on_validation: dict[str, Any]
    splits: dict[str, _Scores]
    copies: list[_Copies] = field(default_factory=list)


_RESULT = TypeAdapter(_Result)


def read_result(file: Location) -> dict[str, Any]:
    """The content of result.json. Raises UserError if it is damaged."""
    try:
        text = read_regular_text(file)
        result = finite_json(text)
        _RESULT.validate_json(text)
        return result
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} is damaged ({reason}): delete it and run again") from None
