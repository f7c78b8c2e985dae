"""Pydantic's complaints about option values, in one line for the user."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from longtail.conf.base.shown_text import redacted, shortened
from longtail.conf.base.suggestions import did_you_mean
from longtail.conf.command_line.help import choices_of
from longtail.conf.command_line.spellings import label_of, names_by_key
from longtail.conf.options.base import JobOptions, presentation

MOST_OF_A_VALUE = 200
"""Characters of a refused value that its message repeats."""

_PLAIN_MESSAGES = {
    "path_not_file": "there is no such file",
    "path_not_directory": "there is no such directory",
}


def describe_errors(error: ValidationError, options_type: type[JobOptions]) -> str:
    """All complaints, each with the option's flag, the value given, what was expected and perhaps what was meant."""
    return "; ".join(_describe(detail, options_type) for detail in error.errors())


def _describe(detail: ErrorDetails, options_type: type[JobOptions]) -> str:
    message = _PLAIN_MESSAGES.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    message = message[0].lower() + message[1:]
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return f"unknown option {name!r}{did_you_mean(name, names_by_key(options_type))}"
    label, field = label_of(options_type, name), options_type.model_fields[name]
    if presentation(field).repeated:
        return f"{label}: {message}"  # which of the values it is about, the message says
    if detail["type"] == "missing":
        return f"{label} is required: {field.description}"
    if detail["type"] == "literal_error":
        message += did_you_mean(str(detail["input"]), choices_of(field))
    return f"{label} {shortened(redacted(str(detail['input'])), MOST_OF_A_VALUE)}: {message}"
