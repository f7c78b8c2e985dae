"""`did you mean`: the known name that an unknown one resembles."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.7) -> str:
    """` (did you mean X?)` to append to an error about ``word``; an empty string if no known name is close.

    likeness: how close a name has to be, in [0, 1]; of three letters, one may be wrong in any case

    Upper and lower case, and dashes and underscores, count as equal; of names that differ in nothing else, the first.
    A name of the same letters in another order (DWR for DRW) is always close.
    """
    by_plain_name = {_plain(name): name for name in reversed(list(known))}
    plain = _plain(word)
    same_letters = [name for name in by_plain_name if sorted(name) == sorted(plain)]
    cutoff = 0 if same_letters else min(likeness, 0.66) if len(plain) <= 3 else likeness
    close = difflib.get_close_matches(plain, same_letters or by_plain_name, n=1, cutoff=cutoff)
    return f" (did you mean {by_plain_name[close[0]]}?)" if close else ""


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_")
