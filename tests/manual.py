"""Blocks of code in the pages that users read, and what each page says of a block that is not run."""

import re
from dataclasses import dataclass

from tests.conftest import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("docs/[hrt]*/*.md"), REPOSITORY / "README.md"])
_BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>sh|python)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    page: its path in the repository
    note: the comment above it; empty where there is none, and the block is run as it stands
    language: sh or python
    """

    page: str
    note: str
    language: str
    text: str

    def commands(self) -> list[str]:
        """Lines of a shell, without comments, continued lines joined."""
        joined = self.text.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s+)#\s.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks() -> list[Block]:
    """All blocks of shell and Python, in the order of the pages."""
    return [
        Block(str(page.relative_to(REPOSITORY)), found["note"] or "", found["language"], found["text"])
        for page in PAGES
        for found in _BLOCK.finditer(page.read_text())
    ]
