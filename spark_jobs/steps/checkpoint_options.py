"""The options that a checkpoint records: those of the training that wrote it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail.conf.base.user_code import check_given
from longtail.conf.options.base import JobOptions
from longtail.conf.options.training import TrainClassifierOptions, TrainOptions

if TYPE_CHECKING:
    from longtail.training.checkpoints import ModelCard


def options_of_checkpoint(given: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Options that a job takes from the checkpoint given as ``resume``, by name.

    given: the values given to the job; without ``resume`` nothing is taken
    names: the options to take

    Empty if the checkpoint records no options, or if the job is given another data set than the checkpoint's. Raises
    UserError if it records a network of a user's own that the job is not given.
    """
    card = _card(Path(given["resume"])) if "resume" in given else None
    if card is None or ("dataset" in given and given["dataset"] != card.options["dataset"]):
        return {}
    if "arch" in names:
        check_given(card.arch, given.get("arch"), option="-a", checkpoint=given["resume"])
    return {name: value for name, value in card.options.items() if name in names and value is not None}


def training_of_checkpoint(checkpoint: Path) -> list[JobOptions]:
    """The options of the supervised training that wrote the checkpoint, for conf/next_command.py; empty if unknown.

    Not validated: a file that they name may be gone, and is left out then. A semi-supervised training gives the options
    that it shares with `train`.
    """
    card = _card(checkpoint)
    if card is None:
        return []
    options_type = TrainClassifierOptions if card.phase == TrainClassifierOptions.phase else TrainOptions
    values = {name: value for name, value in card.options.items() if name in options_type.model_fields}
    if not Path(values.get("pretrained_model") or "/").exists():
        del values["pretrained_model"]
    return [options_type.model_construct(**values)]


def _card(checkpoint: Path) -> "ModelCard | None":
    from longtail.training.checkpoints import load_checkpoint  # torch takes seconds to import

    return load_checkpoint(checkpoint).model_card
