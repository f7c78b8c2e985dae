"""Faults kept as patches, each with the test that must catch it: a check of the tests themselves.

A patch `NAME.patch` has a header, `fault:` with what is wrong and `caught by:` with one pytest node ID per line,
and then a unified diff with one line of context.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parent
REPOSITORY = DIRECTORY.parent.parent
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", "*.egg-info", "build", "dist")


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


def copy_repository(directory: Path) -> None:
    """Copy the code and the tests into a directory that does not exist yet."""
    shutil.copytree(REPOSITORY, directory, symlinks=True, ignore=_NOT_COPIED)


def apply(fault: Fault, directory: Path, *, check_only: bool = False) -> None:
    """Apply a patch to a copy of the repository; raises CalledProcessError if it does not fit any more."""
    options = ["--check"] if check_only else []
    subprocess.run(
        ["git", "apply", "-C1", *options, fault.patch], cwd=directory, check=True, capture_output=True, text=True
    )
