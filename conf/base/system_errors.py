"""Errors of the operating system in one line: what it was, and what the user can do."""

import errno
import os
import re

_FREE_SPACE = "free some space there, or choose another directory, and run the command again"
OTHER_DIRECTORY = "choose another directory, or make it writable"
MENDS = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EROFS: OTHER_DIRECTORY,
    errno.EACCES: OTHER_DIRECTORY,
    errno.EPERM: OTHER_DIRECTORY,
    errno.ENOTDIR: "a directory was expected: choose another one",
    errno.EISDIR: "a file was expected: choose another one",
    errno.EEXIST: "there is a file where a directory was expected: choose another directory",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "a symbolic link leads back to itself: choose another path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (ulimit -n)",
}
"""What the user can do about an error of the operating system; no other error is the user's to mend."""
_UNFINISHED = re.compile(r"\.([^/]+)\.longtail-[0-9a-f]{32}")

NOWHERE = "a file cannot be written"


def message_of(number: int | None, path: object) -> str | None:
    """The line for an error number and the path that the error names; None for an error that no user can mend."""
    if number not in MENDS:
        return None
    where = f"cannot use {shown_path(path)}" if path else NOWHERE
    return f"{where}: {os.strerror(number)}; {MENDS[number]}"


def shown_path(path: object) -> str:
    """A path as the user knows it: unfinished files have a hidden name (conf/base/files.py)."""
    return _UNFINISHED.sub(r"\1", str(path).rstrip("."))
