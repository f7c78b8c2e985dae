"""The floors of the house: imports go down only, training needs no Spark, and no job hides a package."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# What each package may import of the project, and the third parties that some floors do without. The metric event, its
# writer and the unfolding of shares lie in streaming/ but on the lowest floor, so that training can use them.
EVENTS_FLOOR = {"streaming.events", "streaming.unfolding", "streaming.writer"}
MAY_IMPORT = {
    "conf": {"conf"},
    "streaming events": {"conf", *EVENTS_FLOOR},
    "models": {"models"},
    "data": {"conf", "data"},
    "training": {"conf", "data", "models", "training", *EVENTS_FLOOR},
    "streaming": {"conf", "streaming"},
    "spark_jobs": {"conf", "data", "models", "training", "streaming", "spark_jobs"},
}
PROJECT = {"conf", "data", "models", "training", "streaming", "spark_jobs"}
WITHOUT_SPARK = {"conf", "streaming events", "models", "data", "training"}
WITHOUT_TORCH = {"conf", "streaming events", "data", "streaming"}

FILES = sorted(file for package in PROJECT for file in (REPOSITORY / package).rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def floor_of(file: Path) -> str:
    name = module_name(file)
    return "streaming events" if name in EVENTS_FLOOR else name.split(".")[0]


def imported_modules(source: str) -> set[str]:
    """Full names of all that a file imports, at its top or within functions; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this project, so that they can be read here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def is_within(name: str, modules: set[str]) -> bool:
    """Whether a name is one of the modules or lies in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def forbidden_imports(source: str, floor: str) -> set[str]:
    """The project's modules that a file of this floor imports although they lie above it."""
    of_the_project = {name for name in imported_modules(source) if is_within(name, PROJECT)}
    # `from streaming import events` also names the package itself, whose __init__ is empty.
    return {
        name
        for name in of_the_project
        if not is_within(name, MAY_IMPORT[floor])
        and not any(is_within(other, MAY_IMPORT[floor]) and other.startswith(f"{name}.") for other in of_the_project)
    }


def identifier(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


@pytest.mark.parametrize("file", FILES, ids=identifier)
def test_a_file_imports_nothing_from_above(file: Path) -> None:
    assert forbidden_imports(file.read_text(), floor_of(file)) == set()


@pytest.mark.parametrize("file", [f for f in FILES if floor_of(f) in WITHOUT_SPARK], ids=identifier)
def test_a_file_below_the_streaming_floor_does_not_import_spark(file: Path) -> None:
    assert not {name for name in imported_modules(file.read_text()) if is_within(name, {"pyspark", "py4j"})}


@pytest.mark.parametrize("file", [f for f in FILES if floor_of(f) in WITHOUT_TORCH], ids=identifier)
def test_a_file_that_spark_s_driver_needs_does_not_import_torch(file: Path) -> None:
    assert not {name for name in imported_modules(file.read_text()) if is_within(name, {"torch", "torchvision"})}


@pytest.mark.parametrize(
    ("source", "floor", "forbidden"),
    [
        ("import training.loop", "models", {"training.loop"}),
        ("from training import loop", "models", {"training", "training.loop"}),
        ("def f():\n    from spark_jobs.session import spark_session", "training", {"spark_jobs.session"}),
        ("import os\nimport training_extras", "models", set()),
        ("from streaming.events import ClassEvent", "training", set()),
        ("from streaming import events", "training", set()),
        ("from streaming.queries import latest_events", "training", {"streaming.queries"}),
        ("from data import loader", "conf", {"data", "data.loader"}),
    ],
)
def test_the_reader_of_imports_sees_what_is_forbidden(source: str, floor: str, forbidden: set[str]) -> None:
    found = forbidden_imports(source, floor)
    assert forbidden <= found and bool(forbidden) == bool(found)


def test_every_package_has_its_floor() -> None:
    packages = {file.parent.name for file in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    assert packages == PROJECT
    assert {floor_of(file) for file in FILES} == set(MAY_IMPORT)


def modules_loaded_by(*modules: str) -> set[str]:
    """Top-level packages in memory after a fresh interpreter imported the modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return set(done.stdout.split())


def test_training_runs_without_loading_spark() -> None:
    loaded = modules_loaded_by("training.run", "training.inference", "training.__main__")
    assert "torch" in loaded
    assert not loaded & {"pyspark", "py4j", "spark_jobs"}


def test_the_theory_s_simulations_load_neither_spark_nor_torch() -> None:
    loaded = modules_loaded_by("training.theory.evaluation", "training.theory.statements")
    assert "scipy" in loaded
    assert not loaded & {"pyspark", "py4j", "torch"}


def test_options_sources_and_events_load_neither_spark_nor_torch() -> None:
    loaded = modules_loaded_by(
        "conf.arguments", "data.loader", "data.sources.registry", "streaming.events", "streaming.writer"
    )
    assert "conf" in loaded
    assert not loaded & {"pyspark", "py4j", "torch", "training"}


def test_the_tables_of_the_live_query_are_read_and_drawn_without_loading_spark() -> None:
    loaded = modules_loaded_by("streaming.result_tables", "streaming.view", "streaming.plots")
    assert "pyarrow" in loaded
    assert not loaded & {"pyspark", "py4j", "torch", "training"}


@pytest.mark.parametrize("package", ["training", "streaming", "spark_jobs", "data", "models", "conf"])
def test_importing_a_package_imports_nothing_else(package: str) -> None:
    assert (REPOSITORY / package / "__init__.py").read_text().strip() == ""


@pytest.mark.parametrize("file", sorted((REPOSITORY / "spark_jobs").glob("*.py")), ids=identifier)
def test_no_job_hides_a_package(file: Path) -> None:
    # spark-submit puts spark_jobs/ before everything else on the path.
    # By their __init__.py: what the pipeline leaves in the root (runs/, datasets/) is no package.
    packages = {file.parent.name for file in REPOSITORY.glob("*/__init__.py")}
    third_parties = {"torch", "torchvision", "pyspark", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "PIL", "yaml"}
    third_parties |= {"pydantic", "pydantic_core", "rich", "tensorboardX", "matplotlib"}
    assert file.stem not in packages | third_parties | sys.stdlib_module_names


def test_benchmarks_find_all_that_they_import_when_started_as_they_say(tmp_path):
    """By file they see installed packages alone; by name, from the repository's root, the tests' helpers too."""
    files = sorted((REPOSITORY / "benchmarks").glob("*.py"))
    by_file = [file for file in files if f"python benchmarks/{file.name}" in file.read_text()]
    by_name = [file for file in files if f"python -m benchmarks.{file.stem}" in file.read_text()]
    assert sorted(by_file + by_name) == files
    load = "import runpy, sys; assert all('main' in runpy.run_path(file, run_name='imported') for file in sys.argv[1:])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for started, directory in ((by_file, tmp_path), (by_name, REPOSITORY)):
        done = subprocess.run(
            [sys.executable, "-c", load, *started], cwd=directory, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
