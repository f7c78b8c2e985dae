"""Names that come from files: which class names are accepted, and how any name is shown.

A name may hold line breaks, terminal control sequences or bytes that are not UTF-8.
"""

import unicodedata
from collections.abc import Iterable

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import printable

_NOT_IN_CLASS_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, bytes that are not UTF-8, line and paragraph separators."""
_DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They make a terminal or a browser show the text around them in another order."""
_NUM_EXAMPLES = 3


def check_class_names(names: Iterable[str], *, where: object) -> None:
    """Raise UserError, with ``where`` they come from, if a class name is empty or has a character that is not text.

    Class names are shown in terminals, pages, figures and messages, and are compared between files.
    """
    for name in names:
        if not name.strip():
            raise UserError(f"{where} has a class without a name ({name!r}): name it")
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
