"""What the page calls runs: their data set and phase, and what differs from other runs of these."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from longtail.streaming.dashboard.configurations import SEED, differing, label_of, option_texts, options_in

MAX_PARTS = 5
"""Options in a title, beside the seed."""
_PHASES = {
    "pretrain_rot": "pre-training, rotations", "pretrain_moco": "pre-training, MoCo",
    "pretrain_simclr": "pre-training, SimCLR", "train": "labels alone",
    "train_semi": "labels and pseudo-labels", "classifier": "classifier on a frozen backbone",
}  # fmt: skip
_UNTOLD = {"train_rule": ("None", "no re-balancing"), "balancing": ("none", "no balancing")}
"""By option, the value that has another word in titles, and that word."""


def run_titles(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The titles by run, such as "cifar10, labels alone · LDAM · rho 100 · seed 3".

    rows: rows of `runs`, with the columns run, phase and configuration
    """
    return dict(_titles(tuple((row["run"], row["phase"], row["configuration"]) for row in rows)))


def base_title(phase: str, configuration: str | None) -> str:
    """Data set and phase."""
    options = options_in(configuration)
    return ", ".join(str(part) for part in (options.get("dataset"), phase_title(phase, options)) if part)


def phase_title(phase: str, options: Mapping[str, Any]) -> str:
    """What a run does, as the page calls it."""
    if phase == "train_semi" and options.get("semi_method") == "fixmatch":
        balancing = options.get("balancing", "none")
        return "FixMatch" if balancing == "none" else f"FixMatch with {balancing}"
    return _PHASES.get(phase, phase)


def what_differs(configurations: Iterable[str | None]) -> list[str]:
    """For each of these runs, what differs from the others; empty where nothing does."""
    given = list(configurations)
    names = differing(given)
    shown = [name for name in names if name != SEED][:MAX_PARTS] + [name for name in names if name == SEED]
    return [" · ".join(_parts(option_texts(configuration), shown)) for configuration in given]


@lru_cache(maxsize=16)
def _titles(runs: tuple[tuple[str, str, str | None], ...]) -> tuple[tuple[str, str], ...]:
    neighbours: dict[str, list[tuple[str, str | None]]] = {}
    for run, phase, configuration in runs:
        neighbours.setdefault(base_title(phase, configuration), []).append((run, configuration))
    titles: dict[str, str] = {}
    for base, group in neighbours.items():
        for (run, _), parts in zip(group, what_differs(one for _, one in group), strict=True):
            titles[run] = " · ".join(filter(None, (base, parts)))
    shared = Counter(titles.values())
    return tuple((run, title if shared[title] == 1 else f"{title} · {run}") for run, title in titles.items())


def _parts(texts: Mapping[str, str], names: list[str]) -> Iterable[str]:
    for name in names:
        text = texts.get(name)
        value, word = _UNTOLD.get(name, (None, ""))
        if text is not None:
            yield word if text == value else label_of(name, text)
