"""The commands to suggest after a training, a labelling or a calibration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail.conf.base.locations import Location
from longtail.conf.base.user_code import is_code_name
from longtail.conf.next_command import next_command
from longtail.conf.options.data import DATA_OPTIONS, DataOptions
from longtail.conf.options.inference import EvaluateOptions, GenPseudolabelsOptions, PredictOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.steps.checkpoint_options import training_of_checkpoint
from longtail.spark_jobs.steps.prepared_set import prepared_set_dir

PREDICTIONS = Path("predictions")
"""Table of predictions in a suggested command."""


def use_of_checkpoint(options: RunOptions, checkpoint: Location) -> str:
    """The command that labels the unlabeled part with a classifier.

    Without such a part, or if the classifier has learned from it already, that of a classifier of the user's own images
    predicts images, and any other is evaluated.

    options: those that the classifier was trained with
    """
    # Code of the user's own is never taken from a checkpoint.
    own_code = {name: value for name in ("arch", "loss_type") if is_code_name(value := getattr(options, name, ""))}
    names = DATA_OPTIONS - {"data_dir"}  # where to write is never taken from a checkpoint
    recorded = {name: value for name in names if (value := getattr(options, name)) is not None}
    changes: dict[str, Any] = {"resume": checkpoint, **own_code}
    is_labelled = isinstance(options, TrainSemiOptions) or (
        options.imb_factor_unlabel is None and options.unlabeled is None
    )
    if is_labelled:
        output = PREDICTIONS.absolute()
        if options.path is not None and options.path not in (output, *output.parents):
            # Those of the training, as no others are known. A list of these has labels, which predict's has not.
            changes |= {"path": options.path, "output": PREDICTIONS, "list_file": None}
            return next_command("predict", PredictOptions, options, **changes)
        return next_command("evaluate", EvaluateOptions, options, from_checkpoint=recorded, **changes)
    return next_command("gen_pseudolabels", GenPseudolabelsOptions, options, from_checkpoint=recorded, **changes)


def use_of_calibrated(given: Mapping[str, Any], checkpoint: Location, *, of_images: bool) -> str:
    """The command that evaluates a calibrated checkpoint, or predicts if it was calibrated by images of no data set.

    given: the values that the user gave calibrate, by name
    """
    job, options_type = ("predict", PredictOptions) if of_images else ("evaluate", EvaluateOptions)
    changes = {name: value for name, value in given.items() if name in options_type.model_fields}
    if of_images:
        # Those of the calibration, as no others are known.
        changes["output"] = PREDICTIONS
    else:
        changes.pop("output", None)
    return next_command(job, options_type, **{**changes, "resume": checkpoint})


def training_on_pseudo_labels(options: DataOptions, *, checkpoint: Location, table: Location, set_dir: Location) -> str:
    """The command that trains on labels and pseudo-labels, like the training of the checkpoint that gave these.

    options: of the job that labels, or leads to it
    """
    changes: dict[str, Any] = {"pseudo_labels": table}
    if set_dir != prepared_set_dir(options):
        changes["data_dir"] = set_dir.parents[1]
    return next_command("train_semi", TrainSemiOptions, *training_of_checkpoint(checkpoint), options, **changes)
