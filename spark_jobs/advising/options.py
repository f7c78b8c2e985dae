"""The options of `advise`: where the data set is named by --labelled or by the checkpoint of --resume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.data import DATA_OPTIONS, OF_UNLABELED, DataOptions
from longtail.data.manifest import FILE_NAME, read_manifest
from longtail.data.storage import is_table
from longtail.spark_jobs.steps.checkpoint_options import options_of_checkpoint
from longtail.spark_jobs.steps.prepared_set import PREPARED_DIRECTORY


def advise_options(given: Mapping[str, Any]) -> AdviseOptions:
    """The options, with what --labelled and the checkpoint of --resume say of the data set.

    Raises UserError for bad input, or if the checkpoint learned from other labelled images.
    """
    named = _labelled_options(given)
    learned_from = options_of_checkpoint(given, DATA_OPTIONS)
    of_checkpoint = {} if named else learned_from
    if OF_UNLABELED & given.keys():
        named, of_checkpoint = _without_unlabeled(named), _without_unlabeled(of_checkpoint)
    options = resolve_options(AdviseOptions, {**of_checkpoint, **named, **given})
    if learned_from:
        theirs, ours = (_labelled_part(of) for of in (resolve_options(DataOptions, learned_from), options))
        if differing := [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]:
            said = ", ".join(f"{name} {theirs.get(name)} (here {ours.get(name)})" for name in differing)
            raise UserError(f"{options.resume} learned from other labelled images: {said}; leave out --resume")
    return options


def _labelled_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that name the data set that --labelled means; of a prepared set its own."""
    if "labelled" not in given:
        return {}
    place = Path(given["labelled"])
    if clash := sorted({"dataset", "path"} & given.keys()):
        raise UserError(f"--labelled {place} says what --{clash[0]} says: leave one of them out")
    if (place / FILE_NAME).is_file():
        values = dict(read_manifest(place).parameters)
        if values["val_fraction"] == 0:
            del values["val_fraction"]  # another set is prepared, like this one but for the images held out
        place = place.absolute()
        return {**values, **({"data_dir": place.parents[1]} if place.parent.name == PREPARED_DIRECTORY else {})}
    return {"dataset": "table" if place.is_file() or is_table(place) else "folder", "path": place}


def _without_unlabeled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OF_UNLABELED}


def _labelled_part(options: DataOptions) -> dict[str, Any]:
    """What decides which images have labels."""
    without = {name: DataOptions.model_fields[name].default for name in OF_UNLABELED}
    return options.model_copy(update=without).set_parameters()
