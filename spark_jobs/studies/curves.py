"""Axes of an experiment that are numbers: rho, rho_U, the amount of unlabeled data, relevance, or any other option."""

from collections.abc import Callable
from dataclasses import dataclass

from longtail.conf.experiment import Experiment, Options
from longtail.conf.options.data import OF_UNLABELED, DataOptions

_SHOWN_AS: dict[str, tuple[str, Callable[[float], float]]] = {
    "imb_factor": ("rho", lambda factor: 1 / factor),
    "imb_factor_unlabel": ("rho_U", lambda factor: 1 / factor),
    "unlabel_size_factor": ("unlabeled images per labelled one", float),
    "relevance": ("relevance", float),
}
"""How the options of the long tail are called, and what is shown of their values."""


@dataclass(frozen=True)
class NumericAxis:
    """places: by level, its number, in the experiment's order; references: levels that have none (without unlabeled
    data), to be drawn beside"""

    axis: str
    name: str
    places: dict[str, float]
    references: list[str]


def numeric_axes(experiment: Experiment) -> list[NumericAxis]:
    """The axes whose levels give one option at least two different numbers; by the first such option."""
    found = []
    for axis, levels in experiment.axes.items():
        for option in dict.fromkeys(name for options in levels.values() for name in options):
            numbers = {level: _number(experiment, options, option) for level, options in levels.items()}
            name, shown = _SHOWN_AS.get(option, (option, float))
            places = {level: shown(number) for level, number in numbers.items() if number is not None}
            if len(set(places.values())) > 1:
                references = [level for level, number in numbers.items() if number is None]
                found.append(NumericAxis(axis, name, places, references))
                break
    return found


def _number(experiment: Experiment, options: Options, option: str) -> float | None:
    """The option's number at a level: its own, that of all trials, or, of the unlabeled part, the default.

    None if there is none, or if the option is about an unlabeled part that the level does not have.
    """
    values = {**experiment.options, **options}
    if option in OF_UNLABELED:
        if all(values.get(name) is None for name in ("imb_factor_unlabel", "unlabeled")):
            return None
        values = {option: DataOptions.model_fields[option].default, **values}
    number = values.get(option)
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None
