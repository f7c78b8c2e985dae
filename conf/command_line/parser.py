"""A job's command line, split into option values that are not yet validated."""

import argparse
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

from longtail.conf.base.errors import UserError
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.command_line.published_flags import Replaced, both_spellings, ignore_or_refuse, replaced_flags
from longtail.conf.command_line.spellings import all_flags_of
from longtail.conf.options.base import JobOptions, presentation
from longtail.conf.options.data import DataOptions

HELP_FLAGS = ("-h", "--help")
HELP_ALL_FLAGS = ("--help-all", "--help_all")
CONFIG = "config"
_REPLACED = "replaced {}"


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _AsTyped(argparse.Action):
    """Stores the flag as it is spelled on the command line, and its value; empty if there is none."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        value = values if isinstance(values, str) else " ".join(map(str, values or ()))
        setattr(namespace, self.dest, (option_string, value))


def flag_values(options_type: type[JobOptions], argv: Sequence[str], *, prog: str) -> dict[str, Any]:
    """The values given by flags, by option name; that of --config under `config`.

    Prints a warning for a flag of the published scripts that can be ignored. Raises UserError for one that cannot, for
    an unknown flag, and for a flag without its value.
    """
    parser = _parser(options_type, prog)
    parsed, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        parser.error(_describe_unknown(options_type, argv, unknown))
    values = vars(parsed)
    for number, entry in enumerate(_replaced(options_type)):
        if (key := _REPLACED.format(number)) in values:
            ignore_or_refuse(entry, *values.pop(key), prog=prog)
    return values


def known_flag_values(options_type: type[JobOptions], argv: Sequence[str]) -> dict[str, Any]:
    """As flag_values, without what is unknown; nothing if a flag lacks its value."""
    try:
        values = vars(_parser(options_type, "").parse_known_intermixed_args(argv)[0])
    except UserError:
        return {}
    return {name: value for name, value in values.items() if name == CONFIG or name in options_type.model_fields}


@cache  # it is made of the options' class alone, and takes longer to make than a command line to parse
def _parser(options_type: type[JobOptions], prog: str) -> argparse.ArgumentParser:
    parser = _OneLineParser(prog=prog, argument_default=argparse.SUPPRESS, allow_abbrev=False, add_help=False)
    parser.add_argument(f"--{CONFIG}")
    for name, field in options_type.model_fields.items():
        if presentation(field).positional:
            parser.add_argument(name, nargs="?")
        elif field.annotation is bool:
            parser.add_argument(*all_flags_of(options_type, name), dest=name, action="store_true")
        elif presentation(field).repeated:
            parser.add_argument(*all_flags_of(options_type, name), dest=name, action="append")
        elif alone := presentation(field).alone:
            parser.add_argument(*all_flags_of(options_type, name), dest=name, nargs="?", const=alone)
        else:
            parser.add_argument(*all_flags_of(options_type, name), dest=name)
    for number, entry in enumerate(_replaced(options_type)):
        values = "*" if entry.flags == ("--schedule",) else "?"
        parser.add_argument(*both_spellings(entry.flags), dest=_REPLACED.format(number), nargs=values, action=_AsTyped)
    return parser


def _replaced(options_type: type[JobOptions]) -> list[Replaced]:
    """The flags of the published scripts that the job takes, and that are no options of it."""
    if not issubclass(options_type, DataOptions):
        return []
    known = frozenset(flag for name in options_type.model_fields for flag in all_flags_of(options_type, name))
    return replaced_flags((options_type.__doc__ or "").partition(":")[0], known=known)


def _describe_unknown(options_type: type[JobOptions], argv: Sequence[str], arguments: Sequence[str]) -> str:
    """argv: the whole command line; arguments: those of it that no option takes"""
    known = [flag for name in options_type.model_fields for flag in all_flags_of(options_type, name)]
    known += [f"--{CONFIG}", *HELP_FLAGS, *HELP_ALL_FLAGS]
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    if flags:
        return f"unknown option {flags[0]}{did_you_mean(flags[0], known)}"
    flag, value = ("", "", *argv)[argv.index(arguments[0]) : argv.index(arguments[0]) + 2]
    if flag.startswith("-") and os.path.lexists(value) and os.path.lexists(arguments[0]):
        files = ", ".join([value, *arguments])
        return f"{flag} takes one file, and got {files} (a pattern, such as *, gives all that match): name one of them"
    return f"unexpected argument {arguments[0]!r}: every value follows its flag"
