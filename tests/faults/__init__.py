"""Faults kept as patches, each with the test that must catch it: a check of the tests themselves.

A patch `NAME.patch` has a header, `fault:` with what is wrong and `caught by:` with one pytest node ID per line,
and then a unified diff with one line of context.
"""

import re
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """A patch, what is wrong with the code once it is applied, and the tests that fail then."""

    patch: Path
    description: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.patch.stem


def read_faults() -> list[Fault]:
    """All faults, by name."""
    return [_read_fault(patch) for patch in sorted(DIRECTORY.glob("*.patch"))]


def _read_fault(patch: Path) -> Fault:
    header = patch.read_text().partition("\n--- ")[0]
    description = re.search(r"^fault: (.+)$", header, re.MULTILINE)
    tests = re.findall(r"^caught by: (\S.*)$", header, re.MULTILINE)
    if description is None or not tests:
        raise ValueError(f"{patch}: the header needs a line 'fault: ...' and at least one 'caught by: TEST'")
    return Fault(patch, description[1], tuple(tests))
