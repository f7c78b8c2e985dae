"""A job's command line, split into option values that are not yet validated."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from longtail.conf.base.errors import UserError
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.command_line.spellings import all_flags_of
from longtail.conf.options.base import JobOptions, presentation

HELP_FLAGS = ("-h", "--help")
HELP_ALL_FLAGS = ("--help-all", "--help_all")
CONFIG = "config"


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def flag_values(options_type: type[JobOptions], argv: Sequence[str], *, prog: str) -> dict[str, Any]:
    """The values given by flags, by option name; that of --config under `config`.

    Raises UserError for an unknown flag or a flag without its value.
    """
    parser = _parser(options_type, prog)
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(_describe_unknown(options_type, unknown))
    return vars(values)


def known_flag_values(options_type: type[JobOptions], argv: Sequence[str]) -> dict[str, Any]:
    """As flag_values, without what is unknown; nothing if a flag lacks its value."""
    try:
        return vars(_parser(options_type, "").parse_known_args(argv)[0])
    except UserError:
        return {}


def _parser(options_type: type[JobOptions], prog: str) -> argparse.ArgumentParser:
    parser = _OneLineParser(prog=prog, argument_default=argparse.SUPPRESS, allow_abbrev=False, add_help=False)
    parser.add_argument(f"--{CONFIG}")
    for name, field in options_type.model_fields.items():
        if presentation(field).positional:
            parser.add_argument(name, nargs="?")
        elif field.annotation is bool:
            parser.add_argument(*all_flags_of(options_type, name), dest=name, action="store_true")
        else:
            parser.add_argument(*all_flags_of(options_type, name), dest=name)
    return parser


def _describe_unknown(options_type: type[JobOptions], arguments: Sequence[str]) -> str:
    known = [flag for name in options_type.model_fields for flag in all_flags_of(options_type, name)]
    known += [f"--{CONFIG}", *HELP_FLAGS, *HELP_ALL_FLAGS]
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    if flags:
        return f"unknown option {flags[0]}{did_you_mean(flags[0], known)}"
    return f"unexpected argument {arguments[0]!r}: every value follows its flag"
