"""What the page calls runs: their data set and phase, and what differs from other runs of these."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from longtail.streaming.dashboard.configurations import (
    SEED,
    differing,
    label_of,
    option_texts,
    options_in,
    shown_text,
    text_of,
)
from longtail.streaming.dashboard.phases import learns_nothing

MAX_PARTS = 5
"""Options at once in a title, beside the seed."""
_PHASES = {
    "pretrain_rot": "pre-training, rotations", "pretrain_moco": "pre-training, MoCo",
    "pretrain_simclr": "pre-training, SimCLR", "train": "labels alone",
    "train_semi": "labels and pseudo-labels", "classifier": "classifier on a frozen backbone",
}  # fmt: skip
_UNTOLD = {
    "train_rule": ("None", "no re-balancing"), "balancing": ("none", "no balancing"), "exp_str": ("0", ""),
}  # fmt: skip
"""By option, the value that has another word in titles, and that word; empty if it says nothing."""


def run_titles(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The titles by run, such as "cifar10, labels alone · LDAM · rho 100 · seed 3".

    rows: rows of `runs`, with the columns run, phase and configuration
    """
    titles = dict(_titles(_told(rows), but_seed=False))
    shared = Counter(titles.values())
    return {run: title if shared[title] == 1 else f"{title} · {run}" for run, title in titles.items()}


def configuration_titles(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """As run_titles, without the seed and the name: equal for runs that differ in nothing but their seed."""
    return dict(_titles(_told(rows), but_seed=True))


def base_title(phase: str, configuration: str | None) -> str:
    """Data set and phase."""
    options = options_in(configuration)
    dataset = [shown_text(text_of(options["dataset"]))] if "dataset" in options else []
    return ", ".join([*dataset, phase_title(phase, options)])


def phase_title(phase: str, options: Mapping[str, Any]) -> str:
    """What a run does, as the page calls it."""
    if phase == "train_semi" and options.get("semi_method") == "fixmatch":
        balancing = shown_text(text_of(options.get("balancing", "none")))
        return "FixMatch" if balancing == "none" else f"FixMatch with {balancing}"
    return _PHASES.get(phase, phase)


def method_title(phase: str, options: Mapping[str, Any]) -> str:
    """What a run does, with the classifier's method, the loss and the re-balancing."""
    names = ("method",) if learns_nothing(phase, options) else ("method", "loss_type", "train_rule")
    named = (shown_text(text_of(options.get(name, "None"))) for name in names)
    return " · ".join([phase_title(phase, options), *(part for part in named if part != "None")])


def what_differs(configurations: Iterable[str | None], *, but_seed: bool = False) -> list[str]:
    """For each of these runs, what differs from the others; empty where nothing does.

    Those that the first options leave alike are told apart by further ones, which the others need not say.
    """
    given = list(configurations)
    parts = _differing_parts(given)
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, found in enumerate(parts):
        alike.setdefault(tuple(found), []).append(index)
    if len(alike) > 1:
        for found, indices in alike.items():
            for index, more in zip(indices, _differing_parts([given[index] for index in indices]), strict=True):
                parts[index] = [*found, *more]
    if SEED in differing(given) and not but_seed:
        parts = [[*found, *_parts(option_texts(one), [SEED])] for one, found in zip(given, parts, strict=True)]
    return [" · ".join(found) for found in parts]


def _differing_parts(configurations: Sequence[str | None]) -> list[list[str]]:
    """Of each run, the first options but the seed that differ between these runs."""
    shown = [name for name in differing(configurations) if name != SEED][:MAX_PARTS]
    return [list(_parts(option_texts(configuration), shown)) for configuration in configurations]


def _told(rows: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str, str | None], ...]:
    return tuple((row["run"], row["phase"], row["configuration"]) for row in rows)


@lru_cache(maxsize=32)
def _titles(runs: tuple[tuple[str, str, str | None], ...], *, but_seed: bool) -> tuple[tuple[str, str], ...]:
    neighbours: dict[str, list[tuple[str, str | None]]] = {}
    for run, phase, configuration in runs:
        neighbours.setdefault(base_title(phase, configuration), []).append((run, configuration))
    titles: list[tuple[str, str]] = []
    for base, group in neighbours.items():
        parts = what_differs((configuration for _, configuration in group), but_seed=but_seed)
        titles += [(run, " · ".join(filter(None, (base, part)))) for (run, _), part in zip(group, parts, strict=True)]
    return tuple(titles)


def _parts(texts: Mapping[str, str], names: list[str]) -> Iterable[str]:
    for name in names:
        text = texts.get(name)
        value, word = _UNTOLD.get(name, (None, ""))
        if text is not None and (shown := word if text == value else label_of(name, text)):
            yield shown
