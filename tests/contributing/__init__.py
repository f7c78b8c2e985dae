"""The worked examples of CONTRIBUTING.md: sections with one unified diff each, which adds something to the package."""

import re
from dataclasses import dataclass

from tests.patched_copy import REPOSITORY

CODE_FOLDERS = ("conf", "data", "models", "spark_jobs", "streaming", "training")


@dataclass(frozen=True)
class Example:
    """title: heading of the section, which names what the patch adds"""

    title: str
    patch: str

    @property
    def slug(self) -> str:
        """The title as a part of a function's name."""
        return re.sub(r"\W+", "_", self.title.lower()).strip("_")

    @property
    def files(self) -> set[str]:
        """The files that the patch adds or changes."""
        return set(re.findall(r"^\+\+\+ b/(\S+)$", self.patch, re.MULTILINE))


def read_examples() -> list[Example]:
    """All examples in their order."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (.+)\n((?:(?!^##).*\n)*)", text, re.MULTILINE)
    patches = {title: re.findall(r"^```diff\n(.*?)^```$", body, re.MULTILINE | re.DOTALL) for title, body in sections}
    return [Example(title, patch) for title, found in patches.items() for patch in found]
