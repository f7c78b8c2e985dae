"""Markdown for reports: tables and sections."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]], *, numbers_from: int) -> str:
    """A table whose columns from numbers_from on are right-aligned."""
    rules = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in (header, rules, *body))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def joined(sections: Iterable[str]) -> str:
    """Sections separated by empty lines, except between the items of a list."""
    text = ""
    for section in sections:
        gap = "\n" if section.startswith("- ") and text.rpartition("\n")[2].startswith("- ") else "\n\n"
        text += (gap if text else "") + section
    return text + "\n"
