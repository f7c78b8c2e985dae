"""Numeric axes of an experiment: rho, rho_U, the amount of unlabeled data, relevance, or any numeric option."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from longtail.conf.experiment import Experiment, Options
from longtail.conf.options.data import OF_UNLABELED, DataOptions

_SHOWN: dict[str, tuple[str, Callable[[float], float]]] = {
    "imb_factor": ("rho", lambda factor: 1 / factor),
    "imb_factor_unlabel": ("rho_U", lambda factor: 1 / factor),
    "unlabel_size_factor": ("unlabeled images per labelled one", float),
    "relevance": ("relevance", float),
}
"""Axis label and conversion for options of the long tail."""


@dataclass(frozen=True)
class NumericAxis:
    """An axis whose levels are numbers.

    name: label of the numbers
    values: by level, in the experiment's order
    references: levels without a number (without unlabeled data), drawn as horizontal lines
    """

    axis: str
    name: str
    values: dict[str, float]
    references: list[str]


def numeric_axes(experiment: Experiment) -> list[NumericAxis]:
    """The axes whose levels set one option to at least two different numbers, by the first such option."""
    found = []
    for axis, levels in experiment.axes.items():
        for option in dict.fromkeys(name for options in levels.values() for name in options):
            numbers = {level: _number(experiment, options, option) for level, options in levels.items()}
            shown = _SHOWN.get(option)
            name, convert = shown or (option, float)
            values = {level: convert(number) for level, number in numbers.items() if number is not None}
            is_axis = shown is not None or _are_alike_otherwise([levels[level] for level in values])
            if is_axis and len(set(values.values())) > 1:
                references = [level for level, number in numbers.items() if number is None]
                found.append(NumericAxis(axis, name, values, references))
                break
    return found


def _are_alike_otherwise(levels: Sequence[Options]) -> bool:
    """Whether the levels agree in everything that is no number: methods are no axis, although their epochs differ."""
    rest = [{name: value for name, value in options.items() if not _is_number(value)} for options in levels]
    return all(options == rest[0] for options in rest)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(experiment: Experiment, options: Options, option: str) -> float | None:
    """The option's number at a level, from the level, from all trials, or, for the unlabeled part, from the default.

    None without a number, or if the option describes an unlabeled part that the level does not have.
    """
    values = {**experiment.options, **options}
    if option in OF_UNLABELED:
        if all(values.get(name) is None for name in ("imb_factor_unlabel", "unlabeled")):
            return None
        values = {option: DataOptions.model_fields[option].default, **values}
    number = values.get(option)
    return float(number) if number is not None and _is_number(number) else None
