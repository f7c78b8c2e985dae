"""Exceptions in one line for the user; those of a Spark task reach the driver as text and are read from it."""

import re
from urllib.parse import unquote

from longtail.conf.base.errors import UserError


def user_message(error: BaseException) -> str | None:
    """The message for an exception that the user can mend: a UserError, raised in the driver or in a Spark task, or a
    file that Spark cannot read. None for any other exception.
    """
    if isinstance(error, UserError):
        return str(error)
    if found := re.search(r"^\s*(?:\w+\.)*UserError: (.*)$", str(error), re.MULTILINE):
        return found[1]
    if found := re.search(r"\[FAILED_READ_FILE\.\w+\] .* while reading file (.+?)\. +SQLSTATE", str(error)):
        file = unquote(found[1]).removeprefix("file://")
        return f"{file} is damaged or cannot be read: write it again, with the job that wrote it"
    return None


def failure_line(error: BaseException) -> str:
    """An exception in one line: that of a Spark task if there is one, else the cause in the JVM, else its own."""
    text = str(error).strip()
    of_task = re.search(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)$", text, re.MULTILINE)
    if of_task:
        return of_task[1]
    in_jvm = re.search(r"^: [\w.$]+: (.*)$", text, re.MULTILINE)
    if in_jvm:
        return in_jvm[1]
    return f"{type(error).__name__}: {(text or type(error).__name__).splitlines()[0]}"
