"""Copies of the repository with patches applied, and test runs in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "node_modules", "*.egg-info", "build", "dist",
    ".coverage*", "*.pyc.*",  # which other processes may remove or rename meanwhile
)  # fmt: skip


def copy_repository(directory: Path) -> None:
    """Copy the code and the tests into a directory that does not exist yet."""
    shutil.copytree(REPOSITORY, directory, symlinks=True, ignore=_NOT_COPIED)


def apply_patch(patch: str, directory: Path, *, check_only: bool = False) -> None:
    """Apply a unified diff to a copy of the repository; raises CalledProcessError if it does not fit any more."""
    options = ["--check"] if check_only else []
    subprocess.run(
        ["git", "apply", "-C1", *options, "-"], input=patch, cwd=directory, check=True, capture_output=True, text=True
    )


def run_pytest(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy with the code of the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
