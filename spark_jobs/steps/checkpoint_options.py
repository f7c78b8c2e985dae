"""What a job takes over from the checkpoint that it continues from: options, and the prepared set.

A checkpoint may come from a stranger. The locations that it records (LOCATION_OPTIONS) serve to find a prepared set on
the local disk, or in a store that the user names too, and nothing else: nothing is written, prepared or downloaded
because a checkpoint says so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pyspark.sql import SparkSession

from longtail.conf.arguments import dataset_defaults, resolve_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, location
from longtail.conf.base.shown_text import printable
from longtail.conf.networks import is_known_network
from longtail.conf.next_command import next_command
from longtail.conf.options.base import JobOptions
from longtail.conf.options.data import DATA_OPTIONS, LOCATION_OPTIONS, OF_UNLABELED, DataOptions
from longtail.conf.options.inference import InferenceOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.data.copies import unlabeled_copy_lines
from longtail.data.manifest import FILE_NAME, read_manifest
from longtail.data.verification import verify_set
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.prepared_set import PREPARED_DIRECTORY

if TYPE_CHECKING:
    from longtail.training.checkpoint_metadata import CheckpointMetadata

Options = TypeVar("Options", bound=DataOptions)


@dataclass(frozen=True)
class Continued(Generic[Options]):
    """A job's options, with those of its checkpoint.

    set_dir: the prepared set that the checkpoint led to; None if the user names the data set, which is prepared then
    """

    options: Options
    set_dir: Location | None

    def prepared(self, spark: SparkSession) -> Location:
        """The directory of the prepared set. Raises UserError for invalid input."""
        if self.set_dir is None:
            return prepare(spark, self.options)
        manifest = read_manifest(self.set_dir)
        verify_set(self.set_dir, manifest)
        for line in unlabeled_copy_lines(manifest):
            print(line)
        return self.set_dir


def continued(options_type: type[Options], given: dict[str, Any]) -> Continued[Options]:
    """The options of a job that may be given a checkpoint as ``resume``; prints what is taken over from it.

    given: the values that the user gives, by name; they come first

    If the user names the data set (--dataset), the checkpoint's other options of it hold if it is the same. If not, the
    checkpoint's own prepared set is searched for. Raises UserError if the options are invalid, if that set is not
    found, if the checkpoint records code of a user's own that is not given, or if it is of other code, which records no
    data set, and none is named.
    """
    if "resume" not in given:
        _check_data_set_of_backbone(given)
        return Continued(resolve_options(options_type, given), None)
    metadata = metadata_of(_given_location(given, "resume"))
    if metadata is None:
        from longtail.training.foreign_checkpoints import by_position  # with torch

        options = resolve_options(options_type, {**_of_other_code(options_type, given), **given})
        if isinstance(options, TrainOptions | InferenceOptions):
            print(printable(by_position(given["resume"])))
        return Continued(options, None)
    taken = data_options(metadata, given)
    if issubclass(options_type, RunOptions):
        from longtail.training.continuation import training_options  # with torch, which takes seconds to import

        taken |= training_options(options_type, metadata, given)
    return with_recorded(options_type, given, taken, metadata)


def with_recorded(
    options_type: type[Options], given: dict[str, Any], taken: dict[str, Any], metadata: "CheckpointMetadata"
) -> Continued[Options]:
    """The same, with the options to take over chosen: those of data_options(), or fewer, and others."""
    taken = {name: value for name, value in taken.items() if name in options_type.model_fields}
    try:
        options = resolve_options(options_type, {**taken, **given}, is_prepared="dataset" not in given)
    except UserError as error:
        if any(f"--{name} " in str(error) for name in given):
            raise
        raise UserError(f"{given['resume']} does not go with the other options, or is damaged: {error}") from None
    if "dataset" in given:
        _show(options, given, taken)
        return Continued(options, None)
    set_dir = _find_set(options, metadata, checkpoint=_given_location(given, "resume"))
    _show(options, given, taken.keys() - DATA_OPTIONS, set_dir=set_dir)
    return Continued(options, set_dir)


def data_options(metadata: "CheckpointMetadata", given: dict[str, Any]) -> dict[str, Any]:
    """The options of the data set that a checkpoint records, by name, as far as they may be taken over.

    None if the user names another data set. Without locations if the user names the same one, and without an unlabeled
    part that comes from another location.
    """
    recorded = {name: value for name, value in metadata.options.items() if name in DATA_OPTIONS and value is not None}
    if "dataset" not in given:
        return {name: value for name, value in recorded.items() if name != "data_dir"}
    if given["dataset"] != recorded.get("dataset"):
        return {}
    left_out = LOCATION_OPTIONS | (OF_UNLABELED if OF_UNLABELED & LOCATION_OPTIONS & recorded.keys() else set())
    return {name: value for name, value in recorded.items() if name not in left_out}


def _of_other_code(options_type: type[DataOptions], given: dict[str, Any]) -> dict[str, Any]:
    """The network that a checkpoint of other code names, for a training; its data set it does not."""
    from longtail.training.checkpoints import load_checkpoint

    if "dataset" not in given:
        raise UserError(f"{given['resume']} does not say what it was trained on: name the data set with --dataset")
    arch = load_checkpoint(_given_location(given, "resume")).arch
    return {"arch": arch} if issubclass(options_type, RunOptions) and is_known_network(arch) else {}


def _check_data_set_of_backbone(given: dict[str, Any]) -> None:
    """Raise UserError if --pretrained_model was trained on another data set than the default one, and none is named."""
    if (
        "pretrained_model" not in given
        or "dataset" in given
        or not _given_location(given, "pretrained_model").is_file()
    ):
        return  # a file that is not there is refused with the other options
    path = _given_location(given, "pretrained_model")
    metadata = metadata_of(path)
    if metadata is None:
        raise UserError(f"{path} does not say what it was trained on: name the data set to train on with --dataset")
    if (dataset := metadata.options["dataset"]) != DataOptions.model_fields["dataset"].default:
        raise UserError(printable(f"{path} was trained on {dataset}: name that data set, or another, with --dataset"))


def _given_location(given: dict[str, Any], option: str) -> Location:
    """The location that the user gives for an option, before all options are read."""
    try:
        return location(given[option])
    except ValueError as error:
        raise UserError(f"--{option} {given[option]}: {error}") from None


def training_of_checkpoint(checkpoint: Location) -> list[JobOptions]:
    """The options of the supervised training that wrote the checkpoint, for conf/next_command.py; empty if unknown.

    Not validated: a file that they name may be gone, and is left out then. A semi-supervised training gives the options
    that it shares with `train`.
    """
    metadata = metadata_of(checkpoint)
    if metadata is None or "arch" not in metadata.options:  # as of a calibrated checkpoint of other code
        return []
    options_type = TrainClassifierOptions if metadata.phase == TrainClassifierOptions.phase else TrainOptions
    values = {name: value for name, value in metadata.options.items() if name in options_type.model_fields}
    if "pretrained_model" in values and not _may_be_there(values["pretrained_model"]):
        del values["pretrained_model"]
    return [options_type.model_construct(**values)]


def _may_be_there(named: Any) -> bool:
    """Whether a checkpoint names a file that is on the local disk, or in a store: none is asked for it."""
    try:
        path = location(str(named))
        return not isinstance(path, Path) or path.exists()
    except (ValueError, OSError):  # no location, or a name that no disk takes
        return False


def metadata_of(checkpoint: Location) -> "CheckpointMetadata | None":
    """The checkpoint's description of its model; None if it was not written by longtail."""
    from longtail.training.checkpoints import load_checkpoint  # torch takes seconds to import

    return load_checkpoint(checkpoint).metadata


def _find_set(options: DataOptions, metadata: "CheckpointMetadata", *, checkpoint: Location) -> Location:
    """The prepared set that a checkpoint was trained on; or one with options that the user changed, in --data_dir."""
    recorded = {name: value for name, value in metadata.options.items() if name in DATA_OPTIONS and value is not None}
    is_own_set = resolve_options(DataOptions, recorded, is_prepared=True).set_name() == options.set_name()
    data_dirs = [options.data_dir]
    if is_own_set and "data_dir" in recorded:
        # No store is asked because a checkpoint names it: only one that the user has named too.
        known = {_store_of(path) for path in (options.data_dir, checkpoint)}
        data_dirs += [path for path in [location(recorded["data_dir"])] if _store_of(path) in {None, *known}]
    for data_dir in data_dirs:
        for set_dir in _sets_in(data_dir.absolute() / PREPARED_DIRECTORY, first=options.set_name()):
            has_its_name = set_dir.name == options.set_name()
            if is_own_set and metadata.set_identity is not None:
                if _has_identity(set_dir, metadata.set_identity, must_be_read=has_its_name):
                    return set_dir
            elif has_its_name:
                return set_dir
    command = next_command("prepare", PrepareOptions, options)
    searched = " or ".join(dict.fromkeys(map(str, data_dirs)))
    raise UserError(
        f"the prepared set that follows from the checkpoint, {options.set_name()}, is not in {searched}, and a "
        f"checkpoint does not decide what is prepared: run `{command}`, or name the data set with --dataset"
    )


def _store_of(path: Location) -> tuple[str, str] | None:
    """The store that a location is in; None for the local disk."""
    return None if isinstance(path, Path) else (path.scheme, path.authority)


def _has_identity(set_dir: Location, identity: str, *, must_be_read: bool) -> bool:
    """Whether a prepared set is that of an identity. Raises UserError if it must be read and is damaged."""
    try:
        return read_manifest(set_dir).identity == identity
    except UserError:
        if must_be_read:
            raise
        return False


def _sets_in(directory: Location, *, first: str) -> Iterator[Location]:
    """The prepared sets in a directory, that of a name first."""
    found = sorted(directory.iterdir(), key=str) if directory.is_dir() else []
    for set_dir in sorted(found, key=lambda path: path.name != first):
        if not set_dir.name.startswith(".") and (set_dir / FILE_NAME).is_file():
            yield set_dir


def _show(
    options: DataOptions, given: dict[str, Any], taken: Iterable[str], *, set_dir: Location | None = None
) -> None:
    """Print what was taken over, on one line: the set, and the options whose values are not the defaults."""
    options_type = type(options)
    defaults = {name: field.default for name, field in options_type.model_fields.items()}
    defaults |= {**dataset_defaults(options_type, dict(options)), **options_type.implied_defaults(dict(options))}
    shown = [] if set_dir is None else [f"the prepared set {set_dir}"]
    shown += [
        f"{name} {getattr(options, name)}"
        for name in sorted(taken)
        if name not in given and getattr(options, name) != defaults[name]
    ]
    if shown:
        print(printable(f"from {given['resume']}: {', '.join(shown)}"))
