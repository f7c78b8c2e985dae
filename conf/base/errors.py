"""The one exception for bad input.

A job turns it into a single line on standard error and exit status 2. Its
message says what is wrong, what was expected and how to mend it.
"""


class UserError(Exception):
    """Bad input by the user: the message is all that the user gets to see, and always one line.

    It often quotes what a library said of the input, and libraries break lines where they like.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))
