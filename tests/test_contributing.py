"""The worked examples of CONTRIBUTING.md: they touch at most two files, apply to the code as it is, and work."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contributing import CODE_FOLDERS, Example, read_examples
from tests.patched_copy import REPOSITORY, apply_patch, copy_repository, run_pytest

EXAMPLES = read_examples()
CHECKS = "tests/contributing/checks.py"


def test_there_is_one_example_of_each_kind() -> None:
    assert [example.title for example in EXAMPLES] == [
        "Data set", "Loss", "Re-balancing rule", "Network", "Semi-supervised method", "Self-supervised pre-training",
        "Event field", "Query", "Alert", "Chart", "Tracker", "Experiment axis", "Job option", "Job",
    ]  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.slug)
def test_an_example_touches_at_most_two_files_of_the_package_and_applies(example: Example) -> None:
    assert 1 <= len(example.files) <= 2
    assert {file.partition("/")[0] for file in example.files} <= set(CODE_FOLDERS)
    apply_patch(example.patch, REPOSITORY, check_only=True)


def test_the_examples_apply_together_and_each_has_a_check() -> None:
    apply_patch("".join(example.patch for example in EXAMPLES), REPOSITORY, check_only=True)
    checks = [
        node.name for node in ast.parse((REPOSITORY / CHECKS).read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    for example in EXAMPLES:
        assert any(name.startswith(f"test_{example.slug}_") for name in checks), example.title


@pytest.mark.long
def test_the_examples_pass_ruff_and_work(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy_repository(copy)
    for example in EXAMPLES:
        apply_patch(example.patch, copy)
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *CODE_FOLDERS], cwd=copy, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
    done = run_pytest(copy, CHECKS)
    assert done.returncode == 0, done.stdout + done.stderr
