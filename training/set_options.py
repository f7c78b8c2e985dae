"""The options of a training without Spark: those of its prepared set, of its checkpoint and of the user."""

import os
from pathlib import Path
from typing import Any, TypeVar

from longtail.conf.arguments import resolve_options
from longtail.conf.base.locations import Location
from longtail.conf.base.shown_text import printable
from longtail.conf.networks import is_known_network
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.data.manifest import Manifest
from longtail.data.verification import check_parameters
from longtail.training.checkpoints import load_checkpoint
from longtail.training.continuation import training_options
from longtail.training.foreign_checkpoints import by_position

Options = TypeVar("Options", bound=RunOptions)


def options_with_set(
    options_type: type[Options], given: dict[str, Any], manifest: Manifest, *, set_dir: Location
) -> Options:
    """The options that a user gives, completed by those that the set was prepared with and those of --resume.

    given: the values that the user gives, by name

    Raises UserError if the options are invalid, or if they describe another set than the manifest does.
    """
    taken = {}
    if "resume" in given:
        checkpoint = load_checkpoint(Path(given["resume"]))
        if checkpoint.metadata is not None:
            taken = training_options(options_type, checkpoint.metadata, given)
        else:
            taken = {"arch": checkpoint.arch} if is_known_network(checkpoint.arch) else {}
            if issubclass(options_type, TrainOptions) and int(os.environ.get("RANK", 0)) == 0:
                print(printable(by_position(given["resume"])))
    options = resolve_options(options_type, {**taken, **manifest.parameters, **given}, is_prepared=True)
    check_parameters(manifest, options.set_parameters(), set_dir=set_dir, given=given, remedy="leave these options out")
    return options
