"""The command that continues from a job: the `next:` lines, which run as they are printed."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail.conf.arguments import dataset_defaults
from longtail.conf.base.locations import location_text
from longtail.conf.base.shown_text import redacted
from longtail.conf.options.base import JobOptions, presentation
from longtail.conf.options.data import DATA_OPTIONS

_OWN_OF_EACH_JOB = {"resume", "remote", "output_dir"}
"""The checkpoint that a job starts from, what it writes, and a Spark Connect server: not every job goes on with one."""


def next_command(
    job: str,
    options_type: type[JobOptions],
    *chosen: JobOptions,
    from_checkpoint: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """The command line of a job that continues from other jobs and keeps their options; quoted for a shell.

    options_type: the options of the job
    chosen: the options of the other jobs, the latest last
    from_checkpoint: options that the job takes from the checkpoint it is given, by name
    changes: options of the job, whatever the other jobs have

    Of the options that two jobs share, these are passed on, if their value is not the default that will apply:

    - those of the data set;
    - any other whose value is not the other job's default either, if both jobs declare the same default. The learning
      rate of a contrastive pre-training, for example, is not that of a supervised training.
    """
    values = {name: value for options in chosen for name, value in _choices(options, options_type).items()}
    values |= changes
    if from_checkpoint is None or from_checkpoint.get("dataset") != values.get("dataset"):
        from_checkpoint = {}
    defaults = {**_defaults(options_type, values), **from_checkpoint}
    if not from_checkpoint:
        defaults["dataset"] = None  # a command that names its data set is easier to read
    arguments: list[str] = []
    for name in options_type.model_fields:
        if values.get(name) is not None and _text(values[name]) != _text(defaults[name]):
            arguments += _arguments(options_type, name, values[name])
    return redacted(shlex.join(["longtail", job, *arguments]))


def own_command(job: str, options: JobOptions) -> str:
    """The command line of a job with all options that are not the default that applies; quoted for a shell."""
    defaults = {**_defaults(type(options), dict(options)), "dataset": None}
    arguments: list[str] = []
    for name, value in options:
        if value is not None and _text(value) != _text(defaults[name]):
            arguments += _arguments(type(options), name, value)
    return redacted(shlex.join(["longtail", job, *arguments]))


def _choices(options: JobOptions, options_type: type[JobOptions]) -> dict[str, Any]:
    """The values of a job's options that another job, which takes ``options_type``, should have too."""
    own_type = type(options)
    own_defaults = _defaults(own_type, dict(options))
    shared = (own_type.model_fields.keys() & options_type.model_fields.keys()) - _OWN_OF_EACH_JOB
    return {
        name: value
        for name in shared
        if (value := getattr(options, name)) is not None
        if name in DATA_OPTIONS
        or (
            _text(value) != _text(own_defaults[name])
            and own_type.model_fields[name].default == options_type.model_fields[name].default
        )
    }


def _defaults(options_type: type[JobOptions], values: dict[str, Any]) -> dict[str, Any]:
    """The default of every option, given the values of some."""
    declared = {name: field.default for name, field in options_type.model_fields.items()}
    return {**declared, **dataset_defaults(options_type, values), **options_type.implied_defaults(values)}


def _arguments(options_type: type[JobOptions], name: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{name}"]
    return [_text(value)] if presentation(options_type.model_fields[name]).positional else [f"--{name}", _text(value)]


def _text(value: Any) -> str:
    """As on a command line, so that values read from a file compare equal."""
    if isinstance(value, Path):
        return location_text(value)
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
