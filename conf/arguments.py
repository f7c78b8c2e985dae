"""From a command line to validated options.

Every field of a job's options (conf/options/) is a flag and a YAML key. What the command line does not give comes from
the file named by --config, then from the data set's defaults (conf/datasets/), then from the field's own default.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import redacted
from longtail.conf.base.store_path import StorePath
from longtail.conf.base.stores import DEFAULT_FILE_SYSTEM
from longtail.conf.command_line.files import file_values
from longtail.conf.command_line.help import help_text
from longtail.conf.command_line.messages import describe_errors
from longtail.conf.command_line.parser import CONFIG, HELP_ALL_FLAGS, HELP_FLAGS, flag_values, known_flag_values
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import JobOptions
from longtail.conf.options.data import DATA_OPTIONS, DataOptions
from longtail.conf.options.pipeline import PipelineOptions
from longtail.conf.options.source import SET_IS_PREPARED

Options = TypeVar("Options", bound=JobOptions)

_shown_locations: set[str] = set()
"""What _show_locations has said."""


def parse_options(options_type: type[Options], argv: Sequence[str], *, prog: str) -> Options:
    """The validated options of a command line.

    Raises UserError (one line) for any mistake in it; exits after showing the help that --help or --help-all ask for.
    """
    values = given_values(options_type, argv, prog=prog)
    options = resolve_options(options_type, values)
    if isinstance(options, DataOptions):
        for name, why in options.without_effect(values).items():
            print(f"{prog}: --{name} {values[name]} has no effect: {why}", file=sys.stderr)
    return options


def given_values(options_type: type[Options], argv: Sequence[str], *, prog: str) -> dict[str, Any]:
    """Values given by flags, else by the file named by --config, by option name; not yet validated.

    Raises UserError and exits as parse_options does.
    """
    if set(argv) & {*HELP_FLAGS, *HELP_ALL_FLAGS}:
        _show_help(options_type, argv, prog=prog)
    return _with_file_values(options_type, flag_values(options_type, argv, prog=prog), prog=prog)


def resolve_options(options_type: type[Options], values: dict[str, Any], *, is_prepared: bool = False) -> Options:
    """Validate ``values``, by option name; the data set's defaults fill in what they lack.

    is_prepared: the prepared set is there, so that the images need not be
    """
    values = {**dataset_defaults(options_type, values), **values}
    try:
        options = options_type.model_validate(values, context=SET_IS_PREPARED if is_prepared else None)
    except ValidationError as error:
        raise UserError(describe_errors(error, options_type)) from None
    _show_locations(options, values)
    return options


def options_for(options_type: type[Options], options: JobOptions, **changes: Any) -> Options:
    """Options of a job that another job runs: of the other job's options those that it has, and the changes."""
    shared = {name: value for name, value in options if name in options_type.model_fields}
    return options_type.model_validate({**shared, **changes})


def dataset_defaults(options_type: type[JobOptions], values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the data set that the values name, by option name; none for a job without a data set."""
    if (dataset := _dataset(options_type, values)) is None:
        return {}
    facts = dataset_facts(dataset)
    defaults = {**facts.defaults, **(facts.pipeline if issubclass(options_type, PipelineOptions) else {})}
    names = options_type.model_fields.keys() - options_type.own_defaults
    return {name: value for name, value in defaults.items() if name in names}


def _with_file_values(options_type: type[JobOptions], values: dict[str, Any], *, prog: str) -> dict[str, Any]:
    config = values.pop(CONFIG, None)
    return {**(file_values(options_type, Path(config), prog=prog) if config else {}), **values}


def _show_locations(options: JobOptions, values: dict[str, Any]) -> None:
    """Say where the paths without a scheme are that are not on the local disk, in one line, and each once."""
    found = {
        f"--{name} is {value}"
        for name, value in options
        if isinstance(value, str | StorePath) and "://" in str(value) and "://" not in str(values.get(name, ""))
    }
    if new := sorted(found - _shown_locations):
        _shown_locations.update(new)
        line = f"longtail: by {DEFAULT_FILE_SYSTEM}, {', '.join(new)} (file: and an absolute path: the local disk)"
        print(redacted(line), file=sys.stderr)


def _dataset(options_type: type[JobOptions], values: dict[str, Any]) -> str | None:
    """The data set among the values, or the default one; None for a job without a data set."""
    field = options_type.model_fields.get("dataset")
    return None if field is None else str(values.get("dataset", field.default))


def _continues(options_type: type[JobOptions]) -> bool:
    """Whether a job always starts from a checkpoint, whose data set it uses by default."""
    resume = options_type.model_fields.get("resume")
    return resume is not None and resume.is_required()


def _of_the_checkpoint(options_type: type[JobOptions]) -> dict[str, str]:
    """What the help shows as defaults of the data set's options where a checkpoint decides them."""
    fields = options_type.model_fields
    names = DATA_OPTIONS - {"data_dir"}
    return {name: "that of the checkpoint" for name in names if fields[name].default not in (None, False, ())}


def _show_help(options_type: type[JobOptions], argv: Sequence[str], *, prog: str) -> NoReturn:
    """Print the help, with the defaults that apply to the data set and the method given, and exit."""
    everything = bool(set(argv) & set(HELP_ALL_FLAGS))
    rest = [argument for argument in argv if argument not in (*HELP_FLAGS, *HELP_ALL_FLAGS)]
    values = _with_file_values(options_type, known_flag_values(options_type, rest), prog=prog)
    defaults = {**dataset_defaults(options_type, values), **options_type.implied_defaults(values)}
    dataset = _dataset(options_type, values)
    if dataset is not None and "dataset" not in values and _continues(options_type):
        dataset, defaults = None, {**defaults, **_of_the_checkpoint(options_type)}
    print(help_text(options_type, prog=prog, dataset=dataset, defaults=defaults, everything=everything))
    raise SystemExit(0)
