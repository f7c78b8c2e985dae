"""The YAML file of options that --config names."""

from pathlib import Path
from typing import Any

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.base.yaml_text import BadYaml, parse_yaml
from longtail.conf.command_line.spellings import by_option_name, names_by_key
from longtail.conf.options.base import JobOptions


def file_values(options_type: type[JobOptions], path: Path, *, prog: str) -> dict[str, Any]:
    """Option values by name. A key may be any spelling of the option's flag, without the dashes in front.

    Raises UserError if the file cannot be read, is not a YAML mapping, has an unknown key, or sets an option twice.
    """
    try:
        content = parse_yaml(read_regular_text(path))
    except OSError as error:
        raise UserError(f"cannot read the options file {path}: {error.strerror}") from None
    except (BadYaml, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, options as 'name: value' lines were expected")
    names = names_by_key(options_type)
    for key in content:
        if key not in names:
            guess = did_you_mean(str(key), names)
            raise UserError(f"{path}: unknown option {key!r}{guess}; {prog} --help-all lists the options")
    return by_option_name(options_type, content, where=f"{path}: ")
