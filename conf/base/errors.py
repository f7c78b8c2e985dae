"""The exception for bad input.

A job prints its message as one line on standard error and exits with status 2. The message says what is wrong, what was
expected and what to do.
"""


class UserError(Exception):
    """Bad input by the user. The message is all that the user sees, and always one line.

    Messages of libraries, which it may quote, have several lines: they are joined. Characters of file names that would
    control the terminal are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(line.strip() for line in message.splitlines() if line.strip())))


def printable(text: str) -> str:
    r"""``text`` with control characters, and bytes that are not UTF-8, as escapes such as \n or \x1b."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
