"""What the page calls runs: their data set and phase, and what differs from other runs of these."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from longtail.streaming.dashboard.configurations import (
    SEED,
    differing,
    label_of,
    option_texts,
    options_in,
    shown_text,
    sources_of,
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
NO_SOURCES: Mapping[str, str] = MappingProxyType({})
_Told = tuple[tuple[str, str, str | None], ...]
"""Name, phase and configuration of runs."""


def run_titles(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The titles by run, such as "cifar10, labels alone · LDAM · rho 100 · seed 3".

    rows: rows of `runs`, with the columns run, phase and configuration
    """
    runs = _told(rows)
    titles = dict(_titles(runs, runs, but_seed=False))
    shared = Counter(titles.values())
    return {run: title if shared[title] == 1 else f"{title} · {run}" for run, title in titles.items()}


def configuration_titles(rows: Iterable[Mapping[str, Any]], known: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """As run_titles, without the seed and the name: equal for runs that differ in nothing but their seed.

    known: rows of the runs from which these may start
    """
    return dict(_titles(_told(rows), _told(known), but_seed=True))


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


def what_differs(
    configurations: Iterable[str | None], *, but_seed: bool = False, sources: Mapping[str, str] = NO_SOURCES
) -> list[str]:
    """For each of these runs, what differs from the others; empty where nothing does.

    Those that the first options leave alike are told apart by further ones, which the others need not say.

    sources: what the runs are called from which they may start (source_titles)
    """
    given = list(configurations)
    parts = _differing_parts(given, sources)
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, found in enumerate(parts):
        alike.setdefault(tuple(found), []).append(index)
    if len(alike) > 1:
        for found, indices in alike.items():
            further = _differing_parts([given[index] for index in indices], sources)
            for index, more in zip(indices, further, strict=True):
                parts[index] = [*found, *(part for part in more if part not in found)]
    if SEED in differing(given) and not but_seed:
        parts = [[*found, *_parts(option_texts(one), [SEED])] for one, found in zip(given, parts, strict=True)]
    return [" · ".join(found) for found in parts]


def source_titles(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, str]:
    """What runs are called where another one starts from them: "pre-training, rotations, 6 epochs".

    Without data set and seed, which mostly are those of the other one.

    rows: of `runs`
    """
    return _source_titles(_told(rows))


def names_of_sources(configuration: str | None, sources: Mapping[str, str]) -> dict[str, str]:
    """The sources of a run by the option that names each."""
    return {name: sources[run] for name, run in sources_of(options_in(configuration), sources)}


def _differing_parts(configurations: Sequence[str | None], sources: Mapping[str, str]) -> list[list[str]]:
    """Of each run, the first options but the seed that differ between these runs."""
    shown = [name for name in differing(configurations) if name != SEED][:MAX_PARTS]
    return [
        list(_parts(option_texts(configuration), shown, names_of_sources(configuration, sources)))
        for configuration in configurations
    ]


def _told(rows: Iterable[Mapping[str, Any]]) -> _Told:
    return tuple((row["run"], row["phase"], row["configuration"]) for row in rows)


@lru_cache(maxsize=32)
def _source_titles(runs: _Told) -> Mapping[str, str]:
    """Only of runs that others start from."""
    known = {run: (phase, configuration) for run, phase, configuration in runs}
    named = {source for _, _, configuration in runs for _, source in sources_of(options_in(configuration), known)}
    alike: dict[str, list[str]] = {}
    for run in sorted(named):
        phase, configuration = known[run]
        alike.setdefault(phase_title(phase, options_in(configuration)), []).append(run)
    # Of their own sources the phase is enough.
    phases = {run: phase for phase, members in alike.items() for run in members}
    found = {}
    for phase, members in alike.items():
        parts = what_differs((known[run][1] for run in members), but_seed=True, sources=phases)
        found |= {
            run: ", ".join(filter(None, (phase, part.replace(" · ", ", "))))
            for run, part in zip(members, parts, strict=True)
        }
    return MappingProxyType(found)


@lru_cache(maxsize=32)
def _titles(runs: _Told, known: _Told, *, but_seed: bool) -> tuple[tuple[str, str], ...]:
    sources = _source_titles(known)
    neighbours: dict[str, list[tuple[str, str | None]]] = {}
    for run, phase, configuration in runs:
        neighbours.setdefault(base_title(phase, configuration), []).append((run, configuration))
    titles: list[tuple[str, str]] = []
    for base, group in neighbours.items():
        configurations = (configuration for _, configuration in group)
        parts = what_differs(configurations, but_seed=but_seed, sources=sources)
        titles += [(run, " · ".join(filter(None, (base, part)))) for (run, _), part in zip(group, parts, strict=True)]
    return tuple(titles)


def _parts(texts: Mapping[str, str], names: list[str], sources: Mapping[str, str] = NO_SOURCES) -> Iterable[str]:
    for name in names:
        text = texts.get(name)
        value, word = _UNTOLD.get(name, (None, ""))
        if text is not None and (shown := word if text == value else label_of(name, text, sources.get(name))):
            yield shown
