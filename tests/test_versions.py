"""The ranges of setup.py, and the two files of constraints at their ends."""

import ast
import re

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import REPOSITORY


def requirements() -> list[Requirement]:
    """install_requires of setup.py, and the optional dependencies that a part of the package needs."""
    tree = ast.parse((REPOSITORY / "setup.py").read_text())
    keywords = {
        keyword.arg: keyword.value for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords
    }
    install = ast.literal_eval(keywords["install_requires"])
    extras = ast.literal_eval(keywords["extras_require"])
    return [Requirement(line) for line in [*install, *extras["delta"]]]


def pinned(name: str) -> dict[str, Version]:
    """Versions of a constraints file, by lower-case name."""
    lines = (REPOSITORY / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {package.lower(): Version(version) for package, version in pairs}


def test_the_lowest_versions_are_the_lower_bounds_of_the_ranges() -> None:
    lower = {
        requirement.name.lower(): Version(next(part.version for part in requirement.specifier if part.operator == ">="))
        for requirement in requirements()
    }
    lowest = pinned("constraints-lowest.txt")
    assert lower == {name: version for name, version in lowest.items() if name in lower}
    assert lowest.keys() == lower.keys()


def test_the_newest_versions_lie_in_the_ranges_and_pin_every_dependency() -> None:
    newest = pinned("constraints.txt")
    outside = [str(one) for one in requirements() if newest[one.name.lower()] not in one.specifier]
    assert outside == []


def test_no_range_is_a_pin() -> None:
    # Longtail shares its environment with its users' other packages.
    assert not [str(one) for one in requirements() if any(part.operator in ("==", "~=") for part in one.specifier)]


@pytest.mark.parametrize("package", ["torch", "pyspark"])
def test_the_readme_names_the_versions_that_are_tested(package: str) -> None:
    shown = {"torch": "PyTorch", "pyspark": "Spark"}[package]
    (line,) = re.findall(rf"^\| {shown} \| (.*) \|$", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    tested = [pinned(name)[package] for name in ("constraints-lowest.txt", "constraints.txt")]
    assert line == " and ".join(str(version) for version in tested)
