"""Names that come from files: which class names are accepted, and how any name is shown.

A name may hold line breaks, terminal control sequences or bytes that are not UTF-8.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import printable

_NOT_IN_CLASS_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, bytes that are not UTF-8, line and paragraph separators."""
_DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They make a terminal or a browser show the text around them in another order."""
_UNSEEN = re.compile(r"^[\s\ufeff\u200b]+|[\s\ufeff\u200b]+$")
"""White space, byte-order marks and spaces of no width around a name."""
LONGEST_CLASS_NAME = 1000
"""In bytes of UTF-8. Metric events take texts of four times that length."""
_NUM_EXAMPLES = 3
LONGEST_TITLE_LINE = 48
"""In characters; a longer line would leave a figure of usual size."""


def class_name_of(text: str) -> str:
    """The class name that a folder's name or a label stands for: no two that look the same are two classes.

    In Unicode's composed form, as macOS writes a letter and its accent where others have one character, and without
    what cannot be seen before and behind it.
    """
    return _UNSEEN.sub("", unicodedata.normalize("NFC", text))


def remark_on_case(names: Iterable[str]) -> str:
    """A clause on classes that differ in small and capital letters alone, which may be meant; empty if none do."""
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(name.casefold(), name)) != name:
            return f"; the classes '{printable(other)}' and '{printable(name)}' differ in capital letters alone"
    return ""


def check_class_names(names: Iterable[str], *, where: object) -> None:
    """Raise UserError, with ``where`` they come from, if a class name is empty or has a character that is not text.

    Class names are shown in terminals, pages, figures and messages, and are compared between files.
    """
    for name in names:
        if not name.strip():
            raise UserError(f"{where} has a class without a name ({name!r}): name it")
        if len(name.encode(errors="surrogateescape")) > LONGEST_CLASS_NAME:
            raise UserError(
                f"{where} has the class '{printable(name[:40])}...', whose name has more than {LONGEST_CLASS_NAME} "
                f"bytes: rename it"
            )
        for character in name:
            if unicodedata.category(character) in _NOT_IN_CLASS_NAMES or character in _DIRECTION_CONTROLS:
                kind = "bytes that are not UTF-8" if unicodedata.category(character) == "Cs" else "a control character"
                raise UserError(f"{where} has the class '{printable(name)}', whose name has {kind}: rename it")


def with_examples(names: Iterable[str]) -> str:
    """The first names, and how many more there are: `a, b, c and 9 more`."""
    shown = [printable(name) for name in names]
    rest = len(shown) - _NUM_EXAMPLES
    return ", ".join(shown[:_NUM_EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")


def figure_label(name: str) -> str:
    """``name`` as a label for Matplotlib, which reads `$x$` as a formula and leaves labels like `_x` out of legends."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def figure_title(name: str) -> str:
    """``name``, such as that of a run, as a figure's title: a long one is broken at its hyphens."""
    return textwrap.fill(figure_label(name), LONGEST_TITLE_LINE)
