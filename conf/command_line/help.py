"""A job's help: options under headings, with the defaults that will apply, as wide as the terminal."""

import inspect
import shutil
import textwrap
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import DirectoryPath, FilePath
from pydantic.fields import FieldInfo

from longtail.conf.command_line.spellings import flags_of
from longtail.conf.options.base import GROUPS, JobOptions, SparkJobOptions, presentation
from longtail.conf.options.location_types import DirectoryLocation, FileLocation

_HELP_COLUMN = 25
_MAX_METAVAR = 34
_METAVARS: dict[Any, str] = {
    int: "N",
    float: "X",
    Path: "PATH",
    FilePath: "FILE",
    FileLocation: "FILE",
    DirectoryPath: "DIR",
    DirectoryLocation: "DIR",
}
_FLAGS_OF_EVERY_JOB = (
    ("--config FILE", "YAML file of options; a key is any spelling of a flag, without its dashes; flags override it"),
    ("-h, --help, --help-all", "show the common options, or all"),
)


def help_text(
    options_type: type[JobOptions], *, prog: str, dataset: str | None, defaults: dict[str, Any], everything: bool
) -> str:
    """The help of the job that takes ``options_type``.

    prog: the command, for the usage line
    dataset: whose defaults are shown; None for a job without a data set
    defaults: by option name, where the default that applies may differ from the field's
    everything: list the advanced options too
    """
    fields = _fields(options_type)
    shown = {name: field for name, field in fields.items() if everything or not presentation(field).advanced}
    sections = [_usage(options_type, prog), *_description(options_type), *_examples(options_type)]
    for group in _groups(options_type):
        entries = [
            entry
            for name, field in sorted(shown.items(), key=lambda item: _distance(options_type, item[0]))
            if presentation(field).group == group
            for entry in _entry(_invocation(options_type, name), _help(field, defaults.get(name, field.default)))
        ]
        if entries:
            sections.append("\n".join([f"{group}:", *entries]))
    general = [line for invocation, text in _FLAGS_OF_EVERY_JOB for line in _entry(invocation, text)]
    sections.append("\n".join(["Help and files:", *general]))
    if dataset is not None:
        sections.append(f"Defaults are those for --dataset {dataset}; see --dataset NAME --help for another.")
    if hidden := len(fields) - len(shown):
        sections.append(f"{hidden} more options: {prog} --help-all")
    return "\n\n".join(sections)


def option_entries(options_type: type[JobOptions]) -> dict[str, list[tuple[str, str]]]:
    """All options by heading, in the order of the help: each as it is typed, and its line with its own default."""
    fields = _fields(options_type)
    names = sorted(fields, key=lambda name: _distance(options_type, name))
    entries = {
        group: [
            (_invocation(options_type, name), _help(fields[name], fields[name].default))
            for name in names
            if presentation(fields[name]).group == group
        ]
        for group in _groups(options_type)
    }
    return {group: listed for group, listed in entries.items() if listed}


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The values of an option that has a few words to choose from; else none."""
    if choices := presentation(field).choices:
        return choices
    types = _types(field)
    return get_args(types[0]) if len(types) == 1 and get_origin(types[0]) is Literal else ()


def _fields(options_type: type[JobOptions]) -> dict[str, FieldInfo]:
    """The options that the job takes."""
    return {name: field for name, field in options_type.model_fields.items() if name not in options_type.refused}


def _distance(options_type: type[JobOptions], name: str) -> int:
    """0 for an option of the job itself, 1 for one that it shares with similar jobs, 2 for one that every job has."""
    return 2 if name in SparkJobOptions.model_fields else int(name not in inspect.get_annotations(options_type))


def _usage(options_type: type[JobOptions], prog: str) -> str:
    positional = [name.upper() for name, field in options_type.model_fields.items() if presentation(field).positional]
    required = [
        _invocation(options_type, name)
        for name, field in options_type.model_fields.items()
        if field.is_required() and not presentation(field).positional
    ]
    return " ".join(["usage:", prog, *positional, *required, "[OPTIONS]"])


def _description(options_type: type[JobOptions]) -> list[str]:
    """The paragraphs of the docstring, without the job's name in front."""
    text = inspect.getdoc(options_type) or ""
    paragraphs = text.partition(": ")[2].split("\n\n")
    return [_filled(paragraph[0].upper() + paragraph[1:]) for paragraph in paragraphs if paragraph]


def _examples(options_type: type[JobOptions]) -> list[str]:
    job = (options_type.__doc__ or "").partition(":")[0]
    lines = [
        line
        for arguments, effect in options_type.examples
        for line in (f"  longtail {job} {arguments}".rstrip(), _filled(effect, indent=6))
    ]
    return ["\n".join(["Examples:", *lines])] if lines else []


def _groups(options_type: type[JobOptions]) -> list[str]:
    """The headings; those over a required option first."""
    required = {presentation(field).group for field in options_type.model_fields.values() if field.is_required()}
    return sorted(GROUPS, key=lambda group: group not in required)


def _invocation(options_type: type[JobOptions], name: str) -> str:
    """An option as it is typed: ``-b, --batch_size N``."""
    field = options_type.model_fields[name]
    if presentation(field).positional:
        return name.upper()
    flags = ", ".join(flags_of(options_type, name))
    if field.annotation is bool:
        return flags
    return f"{flags} [{_metavar(field)}]" if presentation(field).alone else f"{flags} {_metavar(field)}"


def _metavar(field: FieldInfo) -> str:
    if choices := choices_of(field):
        joined = "|".join(choices)
        return joined if len(joined) <= _MAX_METAVAR else "NAME"
    if repeated := presentation(field).repeated:
        return f"{repeated} ..."
    first = _types(field)[0]
    return "X,..." if get_origin(first) is tuple else _METAVARS.get(first, "TEXT")


def _types(field: FieldInfo) -> list[Any]:
    """The types of a field that may have several, without None."""
    for kind in (
        FilePath,
        FileLocation,
        DirectoryLocation,
    ):  # of which pydantic keeps the plain type alone in the annotation
        if field.rebuild_annotation() == kind:
            return [kind]
    is_union = get_origin(field.annotation) in (Union, UnionType)
    return [kind for kind in (get_args(field.annotation) if is_union else [field.annotation]) if kind is not NoneType]


def _help(field: FieldInfo, default: Any) -> str:
    text = field.description or ""
    if _metavar(field) == "NAME" and not all(choice in text for choice in choices_of(field)):
        *others, last = choices_of(field)
        text = f"{', '.join(others)} or {last}: {text}"
    if field.is_required():
        return f"{text} (required)"
    # One default alone: the value that applies, or the words of the description for an option's own.
    described, words, _ = text.partition("; default: ")
    if default is None or default is False or default == () or (words and default == field.default):
        return text
    return f"{described} (default {_shown(default)})"


def _shown(default: Any) -> str:
    if isinstance(default, tuple | list):
        return ",".join(map(_shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _entry(invocation: str, text: str) -> list[str]:
    """Lines with the invocation on the left and the text, wrapped, on the right."""
    lines = textwrap.wrap(text, _width() - _HELP_COLUMN, break_on_hyphens=False)
    left = f"  {invocation}"
    if len(left) + 2 > _HELP_COLUMN:
        return [left, *(" " * _HELP_COLUMN + line for line in lines)]
    return [left.ljust(_HELP_COLUMN) + lines[0], *(" " * _HELP_COLUMN + line for line in lines[1:])]


def _filled(text: str, *, indent: int = 0) -> str:
    margin = " " * indent
    return textwrap.fill(" ".join(text.split()), _width(), initial_indent=margin, subsequent_indent=margin)


def _width() -> int:
    return max(60, shutil.get_terminal_size().columns - 1)
