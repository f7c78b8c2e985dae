"""The options of runs, from their events: how they are written, and which of them differ.

Events may come from any program, so an option may be anything that JSON has; what cannot be read is no option.
"""

import json
import re
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from longtail.conf.base.shown_text import printable, shortened

SEED = "seed"
WHERE_IT_RUNS = frozenset({
    "verbose", "master", "remote", "data_dir", "runs_dir", "mlflow", "threads", "backend", "data_through", "retries",
    "rank_timeout", "evaluate", "dry_run", "features", "tsne",
})  # fmt: skip
"""Options that change nothing in what is learned: runs are not told apart by them."""
WITHOUT_LEARNING = ("tau", "NCM")
"""Methods of `classifier` runs that make the classifier without a training."""
OF_LEARNING = frozenset({
    "loss_type", "train_rule", "epochs", "batch_size", "learning_rate", "lr_schedule", "momentum", "nesterov",
    "weight_decay",
})  # fmt: skip
"""Options that change nothing where a classifier is made without learning."""
SOURCE_OPTIONS = frozenset({"resume", "pretrained_model", "pseudo_labels"})
"""Options that name the output of another run."""
_FIRST = (
    "dataset", "method", "semi_method", "balancing", "loss_type", "train_rule", "imb_type", "imb_factor", "counts",
    "imb_factor_unlabel", "unlabeled", "unlabel_size_factor", "relevance", "pretrained_model", "resume",
    "pseudo_labels", "tune", "arch", "n_max", "epochs", "learning_rate", "batch_size",
)  # fmt: skip
_LAST = ("rand_number", "exp_str", SEED)
_ORDER = {name: index - len(_FIRST) for index, name in enumerate(_FIRST)} | {
    name: index + 1 for index, name in enumerate(_LAST)
}
_MOST_CHARACTERS = 80
_RUN_OF_A_SEED = re.compile(r"-seed[0-9]+-([A-Za-z0-9_.]+)-[0-9a-f]{8}(?=/|$)")


@lru_cache(maxsize=4096)
def options_in(configuration: str | None) -> Mapping[str, Any]:
    """The options of a run by name, without those that are not set; empty for anything but a JSON object.

    configuration: of its row of `runs`
    """
    try:
        found = json.loads(configuration or "{}")
    except (ValueError, RecursionError):
        return MappingProxyType({})
    if not isinstance(found, dict):
        return MappingProxyType({})
    return MappingProxyType({name: value for name, value in found.items() if value is not None and _is_name(name)})


@lru_cache(maxsize=4096)
def option_texts(configuration: str | None) -> Mapping[str, str]:
    """The options that runs are told apart by, as texts; equal options have equal texts."""
    options = options_in(configuration)
    idle = WHERE_IT_RUNS | OF_LEARNING if options.get("method") in WITHOUT_LEARNING else WHERE_IT_RUNS
    return MappingProxyType({name: text_of(value) for name, value in options.items() if name not in idle})


@lru_cache(maxsize=4096)
def without_seed(configuration: str | None) -> tuple[tuple[str, str], ...]:
    """What is equal for all seeds of a configuration: the options but the seed, and but the seed of the runs that a
    run starts from."""
    texts = option_texts(configuration)
    return tuple((name, _of_any_seed(name, text)) for name, text in sorted(texts.items()) if name != SEED)


def differing(configurations: Sequence[str | None]) -> list[str]:
    """Names of the options that are not the same in all of these runs, the telling ones first, the seed last."""
    return list(_differing(tuple(configurations)))


def sources_of(options: Mapping[str, Any], known: Container[str]) -> list[tuple[str, str]]:
    """The options that name the output of another run, and that run, if it is known."""
    found = []
    for name in sorted(SOURCE_OPTIONS & options.keys()):
        parts = PurePosixPath(str(options[name])).parts
        found += [(name, part) for part in reversed(parts) if part in known][:1]
    return found


def label_of(name: str, text: str, source: str | None = None) -> str:
    """An option in a title: its text where that says enough, otherwise with what it is.

    source: what the run is called whose output the option names; None for the name of its directory
    """
    if name == "epochs" and text == "1":
        return "1 epoch"
    if name in _LABELS:
        return _LABELS[name].format(shown_text(text))
    if name in ("imb_factor", "imb_factor_unlabel"):
        return f"{'rho' if name == 'imb_factor' else 'rho_U'} {_inverse(text)}"
    if name in SOURCE_OPTIONS:
        return f"{_SOURCE_PHRASES[name]} {source or _named_run(text)}"
    if text in ("yes", "no"):
        return name if text == "yes" else f"no {name}"
    return f"{name} {shown_text(text)}"


def shown_text(text: str) -> str:
    """An option's text as the page shows it: in one line, and not too long."""
    return shortened(printable(text), _MOST_CHARACTERS)


def text_of(value: Any) -> str:
    """A value of JSON as text, however its number was written."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list):
        return ",".join(map(text_of, value))
    return value if isinstance(value, str) else json.dumps(value)


@lru_cache(maxsize=64)
def _differing(configurations: tuple[str | None, ...]) -> tuple[str, ...]:
    texts = list(map(option_texts, configurations))
    names = {name for one in texts for name in one}
    seedless = [dict(without_seed(configuration)) for configuration in configurations]
    values = {name: {one.get(name) for one in (seedless if name in SOURCE_OPTIONS else texts)} for name in names}
    found = [name for name, of_runs in values.items() if len(of_runs) > 1]
    # Of options that few know of, those come first that do not differ by being there alone.
    return tuple(sorted(found, key=lambda name: (_ORDER.get(name, 0), len(values[name] - {None}) == 1, name)))


def _is_name(name: str) -> bool:
    """Whether an address can have it: half a character cannot be in one, nor a whole novel."""
    return name.isprintable() and len(name) <= _MOST_CHARACTERS


def _of_any_seed(name: str, text: str) -> str:
    return _RUN_OF_A_SEED.sub(r"-seed-\1", text) if name in SOURCE_OPTIONS else text


def _inverse(text: str) -> str:
    try:
        return f"{1 / float(text):.4g}"
    except (ValueError, ZeroDivisionError):
        return shown_text(text)


def _named_run(text: str) -> str:
    """The directory of a checkpoint, which has the name of its run."""
    path = PurePosixPath(text)
    return shown_text(path.parent.name or path.name)


_LABELS = {
    **dict.fromkeys(("method", "semi_method", "balancing", "loss_type", "train_rule", "imb_type", "arch"), "{}"),
    "exp_str": "{}", "seed": "seed {}", "epochs": "{} epochs", "learning_rate": "lr {}", "batch_size": "batch {}",
}  # fmt: skip
_SOURCE_PHRASES = {"resume": "from", "pretrained_model": "from", "pseudo_labels": "pseudo-labels of"}
