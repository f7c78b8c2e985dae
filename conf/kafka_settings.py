"""The settings of Kafka's client that a user gives: one by one, or in a properties file."""

import re
from collections.abc import Sequence
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import read_regular_text
from longtail.conf.base.properties import parse_properties
from longtail.conf.base.secret_values import resolved
from longtail.conf.base.shown_text import hide, is_plain

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SECRET_KEY = re.compile(r"(?i)jaas|password|secret|token|credential|\.key$")
_OWN = {
    "bootstrap.servers": "--bootstrap_servers sets it",
    **dict.fromkeys(
        ("key.serializer", "value.serializer", "key.deserializer", "value.deserializer", "interceptor.classes"),
        "a message is the line of an event",
    ),
    **dict.fromkeys(("auto.offset.reset", "enable.auto.commit"), "Spark's checkpoint keeps how far the topic was read"),
}
"""Settings that are not the user's to choose, and why."""


def check_setting(key: str, equals: str, value: str) -> None:
    """Raise ValueError, without the value, unless a setting (`key`, "=", `value`) is one that users may give."""
    if not equals or not _KEY.fullmatch(key):
        raise ValueError("input should be KEY=VALUE, as security.protocol=SASL_SSL")
    if key in _OWN:
        raise ValueError(f"{key} cannot be given: {_OWN[key]}")
    if not value:
        raise ValueError(f"{key} has no value")


def kafka_settings(given: Sequence[str], file: Path | None) -> dict[str, str]:
    """The settings by key, those given over those of the file, with the secrets that they point to.

    No message of this process shows a secret among them from now on.

    Raises UserError if the file cannot be read or has a setting that users may not give, or if a secret is missing.
    """
    settings = _of_file(file) if file else {}
    for setting in given:
        key, _, value = setting.partition("=")
        settings[key] = resolved(value, option=f"--kafka_option {key}")
    for key, value in settings.items():
        if _SECRET_KEY.search(key):
            hide(value)
        if not is_plain(value.replace("\n", "").replace("\r", "").replace("\t", "")):
            raise UserError(f"the Kafka setting {key}: a value has no control characters")
    return settings


def _of_file(file: Path) -> dict[str, str]:
    try:
        values = parse_properties(read_regular_text(file))
    except OSError as error:
        raise UserError(f"cannot read --kafka_config {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--kafka_config {file} is not UTF-8 text") from None
    for key, value in values.items():
        try:
            check_setting(key, "=", value)
        except ValueError as error:
            raise UserError(f"--kafka_config {file}: {error}") from None
    return {key: resolved(value, option=f"--kafka_config {file}: {key}") for key, value in values.items()}
