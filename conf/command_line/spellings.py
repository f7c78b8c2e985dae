"""The spellings of an option on the command line and in YAML files."""

from collections.abc import Mapping
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.conf.command_line.published_flags import ALIASES, both_spellings
from longtail.conf.options.base import JobOptions, presentation


def flags_of(options_type: type[JobOptions], name: str) -> list[str]:
    """Flags that set the option ``name``, its own last. Spellings that differ only in - and _ are listed once."""
    return [*presentation(options_type.model_fields[name]).flags, f"--{name}"]


def all_flags_of(options_type: type[JobOptions], name: str) -> list[str]:
    """Every flag that sets the option: for ``--batch_size``, ``--batch-size`` too; and those of published scripts."""
    published = [flag for flag, option in ALIASES.items() if option == name]
    return both_spellings((*flags_of(options_type, name), *published))


def names_by_key(options_type: type[JobOptions]) -> dict[str, str]:
    """Option names by the keys that a YAML file may use: all flags, without the dashes in front."""
    return {flag.lstrip("-"): name for name in options_type.model_fields for flag in all_flags_of(options_type, name)}


def by_option_name(options_type: type[JobOptions], values: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
    """The values by option name, whose keys may be any that names_by_key has; other keys stay.

    where: put before the message of UserError, which is raised if two keys set the same option
    """
    names = names_by_key(options_type)
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = names.get(key, key)
        if name in found:
            raise UserError(f"{where}{key} sets {name} a second time: keep one of them")
        found[name] = value
    return found


def label_of(options_type: type[JobOptions], name: str) -> str:
    """The option as messages name it: its flag, or FILE for a positional one."""
    return name.upper() if presentation(options_type.model_fields[name]).positional else f"--{name}"
