"""From a command line to validated options.

Every field of a job's options (conf/options/) is a flag and a YAML key of the
same name. What is not given on the command line comes from the file named by
--config, then from the data set's defaults (conf/datasets/), then from the
field's own default.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import FilePath, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from longtail.conf.base.errors import UserError
from longtail.conf.datasets import dataset_facts
from longtail.conf.options.base import JobOptions
from longtail.conf.options.data import DataOptions
from longtail.conf.options.semi import PipelineOptions

Options = TypeVar("Options", bound=JobOptions)


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(_one_line(f"{message}; see {self.prog} --help"))


def parse_options(options_type: type[Options], argv: Sequence[str], *, prog: str) -> Options:
    """The options that the command line asks for.

    Raises UserError (one line) for whatever is wrong; ``--help`` exits as usual.
    """
    return resolve_options(options_type, given_values(options_type, argv, prog=prog))


def given_values(options_type: type[Options], argv: Sequence[str], *, prog: str) -> dict[str, Any]:
    """What the user said, not yet validated: the command line, then the file named by --config."""
    given = vars(_parser(options_type, prog).parse_args(argv))
    config_file = given.pop("config", None)
    return {**(_yaml_values(Path(config_file), options_type) if config_file else {}), **given}


def resolve_options(options_type: type[Options], values: dict[str, Any]) -> Options:
    """Validate ``values``, with the data set's defaults filled in where they say nothing."""
    if "dataset" in options_type.model_fields:
        dataset = values.get("dataset", options_type.model_fields["dataset"].default)
        facts = dataset_facts(str(dataset))
        defaults = {**facts.defaults, **(facts.pipeline if issubclass(options_type, PipelineOptions) else {})}
        taken = options_type.model_fields.keys() - options_type.own_defaults
        values = {**{key: value for key, value in defaults.items() if key in taken}, **values}
    try:
        return options_type.model_validate(values)
    except ValidationError as error:
        raise UserError(_one_line("; ".join(_describe(detail, options_type) for detail in error.errors()))) from None


def options_for(options_type: type[Options], options: JobOptions, **changes: Any) -> Options:
    """The options of a job that another one runs: the other's own where the job has them, and the changes."""
    shared = {name: value for name, value in options if name in options_type.model_fields}
    return options_type.model_validate({**shared, **changes})


def data_flags(options: DataOptions) -> str:
    """The flags that name the same data set to another job: --dataset, and what differs from its defaults."""
    defaults = dataset_facts(options.dataset).defaults
    differing = [
        f"--{name} {shlex.quote(str(value))}"
        for name, field in DataOptions.model_fields.items()
        if name not in {"dataset", *JobOptions.model_fields}
        and (value := getattr(options, name)) != defaults.get(name, field.default)
    ]
    return " ".join([f"--dataset {options.dataset}", *differing])


def _parser(options_type: type[JobOptions], prog: str) -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog=prog,
        description=options_type.__doc__,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        epilog="Defaults of a data set (conf/datasets/) go before those shown here.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; the command line goes before it")
    for name, field in options_type.model_fields.items():
        flags = [*(field.json_schema_extra or {}).get("flags", []), f"--{name}"]
        if (field.json_schema_extra or {}).get("positional"):
            parser.add_argument(name, metavar=name.upper(), help=field.description)
        elif field.annotation is bool:
            parser.add_argument(*flags, dest=name, action="store_true", help=field.description)
        else:
            parser.add_argument(*flags, dest=name, metavar=_metavar(field), help=_help(field))
    return parser


def _choices(field: FieldInfo) -> tuple[str, ...]:
    arguments = getattr(field.annotation, "__args__", ())
    return arguments if arguments and all(isinstance(choice, str) for choice in arguments) else ()


def _metavar(field: FieldInfo) -> str:
    if choices := _choices(field):
        return "|".join(choices)
    types = [kind for kind in getattr(field.annotation, "__args__", (field.annotation,)) if kind is not type(None)]
    return {int: "N", float: "X", Path: "PATH", FilePath: "FILE"}.get(types[0], "TEXT")


def _help(field: FieldInfo) -> str:
    shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    suffix = " (required)" if field.is_required() else "" if field.default is None else f" (default {shown})"
    return f"{field.description}{suffix}".replace("%", "%%")


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _describe(detail: ErrorDetails, options_type: type[JobOptions]) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"--{name} is required: {options_type.model_fields[name].description}"
    if detail["type"] == "extra_forbidden":
        return f"unknown option {name!r}: known are {', '.join(sorted(options_type.model_fields))}"
    message = {
        "path_not_file": "there is no such file",
        "path_not_directory": "there is no such directory",
    }.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    message = message[0].lower() + message[1:]
    return f"--{name} {detail['input']}: {message}" if name else message


def _yaml_values(path: Path, options_type: type[JobOptions]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the options file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(_one_line(f"{path} is not YAML: {error}")) from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold options as 'name: value' lines, it holds a {type(values).__name__}")
    if unknown := sorted(set(values) - set(options_type.model_fields), key=str):
        known = ", ".join(sorted(options_type.model_fields))
        raise UserError(f"{path}: unknown option {', '.join(map(repr, unknown))}; known are {known}")
    return values
