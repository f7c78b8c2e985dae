"""The layers of the packages: imports go down only, training needs no Spark, and every module has one name."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtail.conf.options.pretraining import PRETRAININGS
from longtail.spark_jobs.cli import JOBS
from tests.conftest import REPOSITORY

# The six code folders, which src/longtail/ links to.
PACKAGES = ("conf", "data", "models", "training", "streaming", "spark_jobs")
# What each sub-package may import of the project. A file belongs to the one with the longest name that fits. The metric
# events are in streaming/ but in the lowest layer, so that training can use them.
EVENTS = {"streaming.events", "streaming.class_shares"}
BELOW_THE_JOBS = {"conf", "data", "models", "training", "streaming"}
BELOW_THE_LIVE_QUERY = {"conf.base", "conf.vocabulary", *EVENTS} | {
    f"streaming.{package}"
    for package in ("parsing", "event_files", "archive", "tables", "queries", "kernels", "derived", "alerts")
}
BELOW_STEPS = {"spark_jobs.cluster", "spark_jobs.display", "spark_jobs.frames"}
MAY_IMPORT = {
    "conf": {"conf"},
    "streaming.events": {"conf.base", "conf.vocabulary", "streaming.events"},
    "streaming.class_shares": set(),
    "streaming.intervals": set(),
    "streaming.drift": {"streaming.intervals"},
    "models": {"conf", "models"},
    "data": {"conf", "data"},
    "training": {"conf", "data", "models", "training", "streaming.intervals", *EVENTS},
    "streaming": set(),
    "streaming.parsing": {"conf.base", "conf.vocabulary", "streaming.events", "streaming.parsing"},
    "streaming.event_files": {
        "conf.base",
        "conf.vocabulary",
        "streaming.events",
        "streaming.parsing",
        "streaming.event_files",
        "streaming.runs.trash",  # which runs' files come again
    },
    "streaming.archive": {
        "conf.base",
        "streaming.events",
        "streaming.parsing",
        "streaming.event_files",
        "streaming.kernels",  # what is shown of a run before its tables are written
    },
    "streaming.tables": {
        "conf.base",
        "conf.palette",
        "conf.vocabulary",
        "streaming.events",
        "streaming.parsing",
        "streaming.tables",
    },
    "streaming.on_streams": {"conf.base"},
    "streaming.queries": {
        "conf.vocabulary",
        "streaming.events",
        "streaming.intervals",
        "streaming.on_streams",
        "streaming.tables",
    },
    "streaming.table_queries": {"conf.vocabulary", "streaming.on_streams", "streaming.tables"},
    "streaming.derived": {
        "conf.vocabulary",
        "streaming.class_shares",
        "streaming.events",
        "streaming.on_streams",
        "streaming.tables",
    },
    "streaming.alerts": {
        "conf.base",
        "conf.vocabulary",
        "streaming.events",
        "streaming.tables",
        "streaming.drift",
        "streaming.alerts",
    },
    "streaming.runs": {
        "conf.base",
        "conf.vocabulary",
        "streaming.events",
        "streaming.event_files",
        "streaming.archive",
        "streaming.tables",
        "streaming.runs",
    },
    "streaming.kernels": {
        "conf.vocabulary",
        "streaming.events",
        "streaming.intervals",
        "streaming.tables",
        "streaming.kernels",
    },
    "streaming.live": {*BELOW_THE_LIVE_QUERY, "streaming.runs", "streaming.live"},
    "streaming.dashboard": {
        "conf.base",
        "conf.next_command",  # the command of a run, from the options that its events tell
        "conf.options",
        "conf.palette",
        "conf.vocabulary",
        "streaming.events",
        "streaming.tables",
        "streaming.dashboard",
    },
    "spark_jobs.cluster": {*BELOW_THE_JOBS, "spark_jobs.cluster"},
    "spark_jobs.display": {*BELOW_THE_JOBS, "spark_jobs.display"},
    "spark_jobs.frames": {*BELOW_THE_JOBS, "spark_jobs.cluster", "spark_jobs.frames"},
    "spark_jobs.tracking": {*BELOW_THE_JOBS, *BELOW_STEPS, "spark_jobs.tracking"},
    "spark_jobs.steps": {*BELOW_THE_JOBS, *BELOW_STEPS, "spark_jobs.tracking", "spark_jobs.steps"},
    "spark_jobs.studies": {*BELOW_THE_JOBS, *BELOW_STEPS, "spark_jobs.steps", "spark_jobs.studies"},
    "spark_jobs.advising": {*BELOW_THE_JOBS, *BELOW_STEPS, "spark_jobs.steps", "spark_jobs.advising"},
    "spark_jobs.api": {
        *BELOW_THE_JOBS,
        *BELOW_STEPS,
        "spark_jobs.tracking",
        "spark_jobs.steps",
        "spark_jobs.studies",
        "spark_jobs.api",
    },
    "spark_jobs": {*PACKAGES},
}
SPARK = {"pyspark", "py4j"}
TORCH = {"torch", "torchvision"}
WITHOUT_SPARK = {"conf", *EVENTS, "models", "data", "training"}
WITHOUT_TORCH = {"conf", "data", *(package for package in MAY_IMPORT if package.startswith("streaming"))}

WITHOUT_IMPORT_CYCLES = ("conf", "data", "models", "training", "streaming", "spark_jobs")

FILES = sorted(file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py"))


def module_name(file: Path) -> str:
    """Without the `longtail.` that all have."""
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    return max((package for package in MAY_IMPORT if is_within(module, {package})), key=len)


def imported_modules(source: str) -> set[str]:
    """Full names of all that a file imports, at its top or within functions; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, (
                "imports are absolute in this project, so that they can be read here"
            )
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def is_within(name: str, modules: set[str]) -> bool:
    """Whether a name is one of the modules or lies in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def forbidden_imports(source: str, package: str) -> set[str]:
    """The project's modules that a file of this sub-package imports although they are above it, without `longtail.`."""
    own = {name.removeprefix("longtail.") for name in imported_modules(source) if is_within(name, {"longtail"})}
    own -= {"longtail"}
    # `from longtail.streaming import queries` also names the package itself, whose __init__ imports nothing.
    return {
        name
        for name in own
        if not is_within(name, MAY_IMPORT[package])
        and not any(is_within(other, MAY_IMPORT[package]) and other.startswith(f"{name}.") for other in own)
    }


def job_file(job: str) -> Path:
    return REPOSITORY / "spark_jobs" / f"{'pretrain' if job in PRETRAININGS else job}.py"


def import_cycles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other in a circle; imports: by module, the modules that it imports."""
    reached = {module: set(names & imports.keys()) for module, names in imports.items()}
    for middle in reached:  # Warshall's transitive closure
        for module, names in reached.items():
            if middle in names:
                reached[module] = names | reached[middle]
    circular = sorted(module for module, names in reached.items() if module in names)
    groups = {tuple(other for other in circular if other in reached[m] and m in reached[other]) for m in circular}
    return sorted(map(list, groups))


def importers(names: set[str], packages: set[str]) -> list[str]:
    """The files of these sub-packages that import one of the names."""
    found = []
    for file in FILES:
        if package_of(module_name(file)) in packages:
            found += [str(file) for name in imported_modules(file.read_text()) if is_within(name, names)]
    return found


def test_imports_go_down_only() -> None:
    forbidden = {str(file): forbidden_imports(file.read_text(), package_of(module_name(file))) for file in FILES}
    assert len(FILES) > 150
    assert {file: names for file, names in forbidden.items() if names} == {}


def test_no_job_imports_a_job() -> None:
    jobs = {f"longtail.spark_jobs.{job_file(job).stem}" for job in JOBS}
    imports = {job: imported_modules(job_file(job).read_text()) for job in JOBS}
    assert {job: names for job in JOBS if (names := {name for name in imports[job] if is_within(name, jobs)})} == {}


def test_each_job_fits_on_a_page() -> None:
    lengths = {job: len(job_file(job).read_text().splitlines()) for job in JOBS}
    assert {job: length for job, length in lengths.items() if length > 60} == {}


def test_every_file_of_the_top_folder_is_a_job_or_the_command_line() -> None:
    files = {file.stem for file in (REPOSITORY / "spark_jobs").glob("*.py")}
    assert files == {*(job_file(job).stem for job in JOBS), "cli", "__init__"}


@pytest.mark.parametrize("package", WITHOUT_IMPORT_CYCLES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Imports within functions and under TYPE_CHECKING included."""
    own = {module_name(file): imported_modules(file.read_text()) for file in FILES}
    own = {module: names for module, names in own.items() if is_within(module, {package})}
    imports = {module: {name.removeprefix("longtail.") for name in names} - {module} for module, names in own.items()}
    assert import_cycles(imports) == []


def test_the_finder_of_circles_finds_them() -> None:
    imports = {"a": {"b", "os"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f"}, "f": {"g"}, "g": {"e", "a"}}
    assert import_cycles(imports) == [["b", "c"], ["e", "f", "g"]]
    assert import_cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_no_file_below_streaming_imports_spark() -> None:
    assert importers(SPARK, WITHOUT_SPARK) == []
    assert importers(SPARK, {"streaming.queries"}) != []


def test_no_file_that_spark_s_driver_needs_imports_torch() -> None:
    assert importers(TORCH, WITHOUT_TORCH) == []
    assert importers(TORCH, {"training"}) != []


@pytest.mark.parametrize(
    ("source", "package", "forbidden"),
    [
        ("import longtail.training.loop", "models", {"training.loop"}),
        ("from longtail.training import loop", "models", {"training", "training.loop"}),
        (
            "def f():\n    from longtail.spark_jobs.cluster.session import spark_session",
            "training",
            {"spark_jobs.cluster.session"},
        ),
        ("import os\nimport longtail_extras", "models", set()),
        ("from longtail.streaming.events.schema import ClassEvent", "training", set()),
        ("from longtail.streaming.events import schema", "training", set()),
        ("from longtail.streaming.queries import latest_events", "training", {"streaming.queries"}),
        ("from longtail.data import loader", "conf", {"data", "data.loader"}),
    ],
)
def test_the_reader_of_imports_sees_what_is_forbidden(source: str, package: str, forbidden: set[str]) -> None:
    found = forbidden_imports(source, package)
    assert forbidden <= found and bool(forbidden) == bool(found)


def test_the_package_is_the_six_folders() -> None:
    linked = {link.name: link.resolve() for link in (REPOSITORY / "src" / "longtail").iterdir() if link.is_symlink()}
    assert linked == {package: REPOSITORY / package for package in PACKAGES}
    assert {package_of(module_name(file)) for file in FILES} == set(MAY_IMPORT)


def in_fresh_interpreter(code: str, cwd: Path = REPOSITORY) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_loaded_by(*modules: str) -> set[str]:
    """Names of all that is in memory after a fresh interpreter imported the modules."""
    return set(in_fresh_interpreter(f"import sys, {', '.join(modules)}; print(*sys.modules)").split())


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_can_be_imported_under_two_names(package: str) -> None:
    # From the repository's root, where Python finds the folder first.
    try_it = f"try:\n    import {package}\nexcept ImportError as error:\n    print(error)"
    assert in_fresh_interpreter(try_it) == f"{package}/ is the package longtail.{package}: import it by that name\n"


def test_importing_longtail_loads_nothing_and_gives_its_packages_when_they_are_named() -> None:
    loaded = modules_loaded_by("longtail")
    assert {name for name in loaded if name.startswith("longtail.")} == set()
    assert not loaded & {*SPARK, *TORCH, "numpy", "pandas", "pyarrow", "pydantic"}
    shown = in_fresh_interpreter("import longtail; print(longtail.training.__name__, 'conf' in dir(longtail))")
    assert shown == "longtail.training True\n"
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from longtail import nothing  # noqa: F401


def test_training_runs_without_loading_spark() -> None:
    loaded = modules_loaded_by("longtail.training.run", "longtail.training.inference", "longtail.training.command")
    assert "torch" in loaded
    assert not loaded & {*SPARK, "longtail.spark_jobs"}


def test_a_checkpoint_is_loaded_and_used_without_spark() -> None:
    loaded = modules_loaded_by("longtail.spark_jobs.api.model", "longtail.training.inference")
    assert "torch" in loaded
    assert not loaded & SPARK


def test_the_theory_s_simulations_load_neither_spark_nor_torch() -> None:
    loaded = modules_loaded_by("longtail.training.theory.evaluation", "longtail.training.theory.statements")
    assert "scipy" in loaded
    assert not loaded & (SPARK | TORCH)


def test_options_sources_and_events_load_neither_spark_nor_torch() -> None:
    loaded = modules_loaded_by(
        "longtail.conf.arguments",
        "longtail.data.loader",
        "longtail.data.sources.registry",
        "longtail.streaming.events.schema",
        "longtail.streaming.events.writer",
    )
    assert "longtail.conf" in loaded
    assert not loaded & {*SPARK, *TORCH, "longtail.training"}


def test_the_tables_of_the_live_query_are_read_and_drawn_without_loading_spark() -> None:
    loaded = modules_loaded_by(
        "longtail.streaming.tables.reading", "longtail.streaming.tables.view", "longtail.streaming.tables.plots"
    )
    assert "pyarrow" in loaded
    assert not loaded & {*SPARK, *TORCH, "longtail.training"}


def test_importing_a_package_imports_nothing_else() -> None:
    code = {file: file.read_text() for file in FILES if file.name == "__init__.py"}
    assert {str(file) for file, source in code.items() if imported_modules(source)} == set()


def test_no_job_hides_a_package() -> None:
    # spark-submit puts spark_jobs/ before everything else on the path.
    third_parties = {"torch", "torchvision", "pyspark", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "PIL", "yaml"}
    third_parties |= {"pydantic", "pydantic_core", "rich", "tensorboardX", "matplotlib", "longtail"}
    jobs = {file.stem for file in (REPOSITORY / "spark_jobs").iterdir()}
    assert not jobs & (third_parties | sys.stdlib_module_names)


@pytest.mark.long
def test_benchmarks_find_all_that_they_import_when_started_as_they_say(tmp_path: Path) -> None:
    """By file they see installed packages alone; by name, from the repository's root, the tests' helpers too."""
    sources = {file: file.read_text() for file in sorted((REPOSITORY / "benchmarks").glob("*.py"))}
    files = [file for file, source in sources.items() if '__name__ == "__main__"' in source]
    helpers = {f"benchmarks.{file.stem}" for file in sources.keys() - set(files)}
    assert helpers <= set().union(*map(imported_modules, sources.values()))
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
