"""Values that an option only points to, so that no secret is on a command line: `env:NAME` or `file:PATH`."""

import os
from pathlib import Path

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import open_regular_file
from longtail.conf.base.shown_text import hide

MOST_BYTES = 1 << 20
"""Of a file; a store of certificates has less."""


def resolved(value: str, *, option: str) -> str:
    """The value; of `env:NAME` that of the variable, of `file:PATH` the text of the file without its last newline.

    What is read in this way is a secret: no message of this process shows it from now on.
    option: what the value was given for, for messages

    Raises UserError if there is no such variable or file, or if the file is empty, too large or not UTF-8 text.
    """
    scheme, _, place = value.partition(":")
    if scheme == "env":
        if not (secret := os.environ.get(place, "")):
            raise UserError(f"{option}: the environment variable {place} is not set: set it, or name another one")
    elif scheme == "file":
        secret = _read(Path(place), option)
    else:
        return value
    hide(secret)
    return secret


def _read(path: Path, option: str) -> str:
    try:
        with open_regular_file(path) as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UserError(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{option}: {path} is not UTF-8 text") from None
    if not text or len(content) > MOST_BYTES:
        raise UserError(f"{option}: {path} has {len(content)} bytes or more, between 1 and {MOST_BYTES} were expected")
    return text
