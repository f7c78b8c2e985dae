"""The exception for bad input.

A job prints its message as one line on standard error and exits with status 2. The message says what is wrong, what was
expected and what to do.
"""

MAX_CHARACTERS = 2000
"""Of a message."""


class UserError(Exception):
    """Bad input by the user. The message is all that the user sees, and always one line.

    Messages of libraries, which it may quote, have several lines: they are joined. Characters of file names that would
    control the terminal are shown as escapes. Of a message that quotes a file at length, the middle is left out.
    """

    def __init__(self, message: str) -> None:
        line = printable(" ".join(line.strip() for line in message.splitlines() if line.strip()))
        half = MAX_CHARACTERS // 2
        super().__init__(line if len(line) <= MAX_CHARACTERS else f"{line[:half]} ... {line[-half:]}")


def printable(text: str) -> str:
    r"""``text`` with control characters, and bytes that are not UTF-8, as escapes such as \n or \x1b."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
