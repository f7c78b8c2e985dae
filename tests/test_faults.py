"""The faults that are kept as patches (tests/faults): each applies to the code as it is, and a test catches it."""

import ast
from pathlib import Path

import pytest

from tests.faults import Fault, read_faults
from tests.faults.__main__ import judge
from tests.patched_copy import REPOSITORY, apply_patch

FAULTS = read_faults()


def _tests_in(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_there_are_twenty_faults() -> None:
    assert len(FAULTS) == 20


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_applies_and_the_tests_that_catch_it_exist(fault: Fault) -> None:
    apply_patch(fault.patch.read_text(), REPOSITORY, check_only=True)
    for node_id in fault.tests:
        file, _, test = node_id.partition("::")
        assert test.partition("[")[0] in _tests_in(REPOSITORY / file)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_is_caught_by_an_assertion(fault: Fault) -> None:
    assert judge(fault) == ""
