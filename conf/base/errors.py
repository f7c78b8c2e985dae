"""The one exception for bad input.

A job turns it into a single line on standard error and exit status 2. Its
message says what is wrong, what was expected and how to mend it.
"""


class UserError(Exception):
    """Bad input by the user. The message is all that the user sees, and always one line.

    Messages of libraries, which it may quote, have several lines: they are joined.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines() if line.strip()))
