"""The exception for bad input.

A job prints its message as one line on standard error and exits with status 2. The message says what is wrong, what was
expected and what to do.
"""

from longtail.conf.base.shown_text import one_line


class UserError(Exception):
    """Bad input by the user. The message is all that the user sees, and always one line without secrets.

    Messages of libraries, which it may quote, have several lines: they are joined. Characters of file names that would
    control the terminal are shown as escapes. Of a message that quotes a file at length, the middle is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
