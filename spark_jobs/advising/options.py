"""The options of `advise`, whose data set may be named by --labelled or by the checkpoint of --resume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail.conf.arguments import resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.next_command import next_command
from longtail.conf.options.advise import AdviseOptions
from longtail.conf.options.data import LOCATION_OPTIONS, OF_UNLABELED, DataOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.data.manifest import FILE_NAME, read_manifest
from longtail.data.storage import is_table
from longtail.spark_jobs.steps.checkpoint_options import Continued, data_options, metadata_of, with_recorded
from longtail.spark_jobs.steps.prepared_set import PREPARED_DIRECTORY, prepared_set_dir


def advise_options(given: dict[str, Any]) -> Continued[AdviseOptions]:
    """The job's options, including those that --labelled and the checkpoint of --resume imply about the data set.

    given: the options on the command line

    Raises UserError for bad input, or if the checkpoint was trained on other labelled images.
    """
    named = _labelled_options(given)
    metadata = metadata_of(Path(given["resume"])) if "resume" in given else None
    inherited = {} if named or metadata is None else data_options(metadata, given)
    if OF_UNLABELED & given.keys():
        named, inherited = _without_unlabeled(named), _without_unlabeled(inherited)
    if named or metadata is None:
        # No location is looked at because a manifest names it: its set must be there.
        of_manifest = "labelled" in given and (Path(given["labelled"]) / FILE_NAME).is_file()
        job = Continued(resolve_options(AdviseOptions, {**named, **given}, is_prepared=of_manifest), None)
        _check_locations(job.options, named, given)
    else:
        job = with_recorded(AdviseOptions, given, inherited, metadata)
    if metadata is not None and given.get("dataset") in (None, metadata.options.get("dataset")):
        _check_labelled_part(job.options, data_options(metadata, {}))
    return job


def check_output_can_be_written(options: AdviseOptions) -> None:
    """Raise UserError if the advice could not be written, before Spark and a training start."""
    of_checkpoint = options.resume.parent if options.resume else options.runs_dir
    check_can_be_written(options.output_dir or of_checkpoint, option="--output_dir")


def _check_locations(options: AdviseOptions, named: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise UserError if a set would be prepared, or images downloaded, because a manifest says so, not the user."""
    of_manifest = LOCATION_OPTIONS - {"dataset", "data_dir"} - given.keys()
    if "dataset" not in named or not (Path(given["labelled"]) / FILE_NAME).is_file():
        return
    locations = [str(named[name]) for name in sorted(of_manifest) if named.get(name) is not None] or [named["dataset"]]
    if not prepared_set_dir(options).exists():
        raise UserError(
            f"--labelled {given['labelled']} has no images held out for validation, or another unlabeled part than is "
            f"asked for, and its manifest does not decide that images of {' and '.join(locations)} are read: run "
            f"`{next_command('prepare', PrepareOptions, options)}` first"
        )


def _check_labelled_part(options: AdviseOptions, trained_on: dict[str, Any]) -> None:
    """Raise UserError if the checkpoint was trained on other labelled images than the options name."""
    of_training = resolve_options(DataOptions, trained_on, is_prepared=True)
    theirs, ours = _labelled_part(of_training), _labelled_part(options)
    if differing := [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]:
        differences = ", ".join(f"{name} {theirs.get(name)} (here {ours.get(name)})" for name in differing)
        raise UserError(f"{options.resume} was trained on other labelled images: {differences}; omit --resume")


def _labelled_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The data set's options that --labelled implies; for a prepared set, its own."""
    if "labelled" not in given:
        return {}
    path = Path(given["labelled"])
    if clash := sorted({"dataset", "path"} & given.keys()):
        raise UserError(f"--labelled {path} and --{clash[0]} both name the labelled images: omit one of them")
    if (path / FILE_NAME).is_file():
        values = dict(read_manifest(path).parameters)
        if values["val_fraction"] == 0:
            del values["val_fraction"]  # another set is prepared: like this one, with held-out images
        path = path.absolute()
        return {**values, **({"data_dir": path.parents[1]} if path.parent.name == PREPARED_DIRECTORY else {})}
    return {"dataset": "table" if path.is_file() or is_table(path) else "folder", "path": path}


def _without_unlabeled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OF_UNLABELED}


def _labelled_part(options: DataOptions) -> dict[str, Any]:
    """The options that determine the labelled images."""
    defaults = {name: DataOptions.model_fields[name].default for name in OF_UNLABELED}
    return options.model_copy(update=defaults).set_parameters()
