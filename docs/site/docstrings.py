"""Extension of griffe, which reads docstrings for the manual: the lines `name: what it is` become a list."""

import re
from typing import Any

import griffe

_NAMED = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): ")


class NamedLinesAsLists(griffe.Extension):
    """Markdown would join the lines of a docstring's parameters to one paragraph."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)


def with_lists(docstring: str) -> str:
    """The docstring with each paragraph of named lines as a Markdown list."""
    return "\n\n".join(map(_paragraph, docstring.split("\n\n")))


def _paragraph(text: str) -> str:
    if not _NAMED.match(text):
        return text
    return "\n".join(_NAMED.sub(r"- **\1**: ", line) for line in text.split("\n"))
