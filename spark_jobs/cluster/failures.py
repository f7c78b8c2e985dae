"""What an exception means to the user: bad input, or a failure; here or in a Spark task."""

import re

from longtail.conf.base.errors import UserError


def user_message(error: BaseException) -> str | None:
    """The line for the user if bad input caused the error, here or in a Spark task; None if it is a failure."""
    if isinstance(error, UserError):
        return str(error)
    # A task's exception reaches the driver as text.
    found = re.search(r"^\s*(?:\w+\.)*UserError: (.*)$", str(error), re.MULTILINE)
    return found[1] if found else None


def failure_line(error: BaseException) -> str:
    """The exception in one line: of one that a Spark task raised, the task's own; of another in the JVM, its cause."""
    text = str(error).strip()
    of_task = re.search(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)$", text, re.MULTILINE)
    if of_task:
        return of_task[1]
    in_jvm = re.search(r"^: [\w.$]+: (.*)$", text, re.MULTILINE)
    if in_jvm:
        return in_jvm[1]
    return f"{type(error).__name__}: {(text or type(error).__name__).splitlines()[0]}"
