"""Which options a job takes over from the checkpoint that it continues from; what the user gives comes first."""

from typing import Any

from longtail.conf.base.user_code import check_given, is_code_name
from longtail.conf.options.base import is_in_run_name, presentation
from longtail.conf.options.data import DATA_OPTIONS
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions
from longtail.training.checkpoint_metadata import CheckpointMetadata

OPTIONS_OF_CODE = ("arch", "loss_type")
"""Options whose value may be code of the user's own, which is never run because a checkpoint names it."""


def training_options(
    options_type: type[RunOptions], metadata: CheckpointMetadata, given: dict[str, Any]
) -> dict[str, Any]:
    """The training's options in a checkpoint, for a job that goes on with it, without those of the data set.

    given: the values that the user gives, by name

    Of a training of another kind, and for a new classifier, only the network is taken over. The machine's part (ranks,
    threads, memory), where to write, and the run's own name are never taken over. Raises UserError if the checkpoint
    records code of a user's own that is not given.
    """
    goes_on = metadata.phase == options_type.phase and not issubclass(options_type, TrainClassifierOptions)
    names = set(training_option_names(options_type)) if goes_on else {"arch"}
    recorded = {name: value for name, value in metadata.options.items() if name in names and value is not None}
    for name in OPTIONS_OF_CODE:
        value = recorded.get(name)
        if isinstance(value, str) and is_code_name(value) and name not in given:
            check_given(value, None, option="-a" if name == "arch" else f"--{name}", checkpoint=given["resume"])
    return recorded


def training_option_names(options_type: type[RunOptions]) -> list[str]:
    """The options that a job takes over from a training of its own kind."""
    return [
        name
        for name, field in options_type.model_fields.items()
        if is_in_run_name(field) and name not in DATA_OPTIONS and presentation(field).group not in ("Spark", "Output")
    ]
