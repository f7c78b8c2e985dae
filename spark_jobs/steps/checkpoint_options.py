"""Options that a job takes over from a checkpoint."""

from pathlib import Path
from typing import Any

from longtail.conf.options.base import JobOptions
from longtail.conf.options.data import DataOptions

DATA_OPTIONS = frozenset(DataOptions.model_fields) - frozenset(JobOptions.model_fields)
"""The options that name a data set."""


def options_of_checkpoint(given: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Of the checkpoint that --resume names, those of its training's options that a job takes over.

    given: what the user said. Nothing if the checkpoint does not say, or is of another data set than the given one.
    """
    if "resume" not in given:
        return {}
    from longtail.training.checkpoints import load_checkpoint

    card = load_checkpoint(Path(given["resume"])).model_card
    if card is None or ("dataset" in given and given["dataset"] != card.options["dataset"]):
        return {}
    return {name: value for name, value in card.options.items() if name in names and value is not None}
