"""`did you mean`: the known name that an unknown one resembles."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.7) -> str:
    """` (did you mean X?)` to append to an error about ``word``; an empty string if no known name is close.

    likeness: how close a name has to be, in [0, 1]

    Upper and lower case, and dashes and underscores, count as equal; of names that differ in nothing else, the first.
    """
    by_plain_name = {_plain(name): name for name in reversed(list(known))}
    close = difflib.get_close_matches(_plain(word), by_plain_name, n=1, cutoff=likeness)
    return f" (did you mean {by_plain_name[close[0]]}?)" if close else ""


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_")
