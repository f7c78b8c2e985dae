"""Fixtures: one Spark session for all tests, and the jobs, in that session or as a user starts them.

`python -m pytest` runs what takes seconds; `python -m pytest --long` also what
takes minutes or downloads real data. With `-n 2` two processes share the files,
each with a Spark session of its own.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import resolve_options
from longtail.conf.base import shown_text
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.spark_jobs.cli import job_main, run_job
from longtail.spark_jobs.cluster.session import described, spark_session
from longtail.spark_jobs.steps.prepare import prepare
from tests.cluster import LOOPBACK, quick_java

# Threads of PyTorch and scikit-learn that have nothing to do leave the cores to the other processes of the tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent

LONGEST_FILES = [
    "test_failures.py", "test_jobs.py", "test_package.py", "test_faults.py", "test_stores.py", "test_experiment_job.py",
    "test_kafka.py", "test_notebook_session.py", "test_exactly_once.py", "test_killed_at_random.py",
    "test_dashboard_browser.py", "test_live_view.py", "test_notebooks.py", "test_manual.py", "test_own_queries.py",
    "test_connect.py", "test_real_data.py", "test_two_hosts.py", "test_class_archive.py", "test_standalone_cluster.py",
    "test_precision.py", "test_mlflow.py", "test_predict_stream.py", "test_contributing.py", "test_prepare_killed.py",
    "test_gpu_addresses.py", "test_option_values.py", "test_theory_job.py", "test_semi_runs.py", "test_user_code.py",
    "test_alerts.py",
]  # fmt: skip
"""They come first, so that with several processes none is left alone with a long one at the end."""

RunJob = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    parser.addoption("--screenshots", type=Path, help="directory for the browser tests' pictures of the live page")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    place = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local session with four task slots, so that two ranks leave room for a streaming query.

    Its Python workers start with the large packages loaded (spark_jobs/frames/preloaded_workers.py), and compute in one
    thread each: the networks of the tests are too small for more.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        session = spark_session("tests", SparkJobOptions(master="local[4]"), networks=True)
    yield session
    session.stop()


@pytest.fixture(autouse=True)
def no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of one test is hidden in this test alone."""
    monkeypatch.setattr(shown_text, "_known_secrets", set())


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks and batches as small as the tests' only lose by being shared out over threads."""
    import torch  # here, because not every test needs it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny prepared set, for modules that change nothing in it."""
    from tests.tiny_set import write_tiny_set  # with torch

    return write_tiny_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="session")
def prepared_digits(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`datasets/` as `longtail prepare` without options writes it."""
    directory = tmp_path_factory.mktemp("prepared_digits") / "datasets"
    prepare(spark, resolve_options(PrepareOptions, {"data_dir": directory}))
    return directory


@pytest.fixture
def with_digits(tmp_path: Path, prepared_digits: Path) -> None:
    """The test's directory has the prepared digits, for tests of what comes after: preparing takes longer than that."""
    shutil.copytree(prepared_digits, tmp_path / "datasets")


def run_in_session(spark: SparkSession, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`longtail NAME ARGUMENTS` in this process and its Spark session; raises on no exit status."""
    main = job_main(name)
    given, status = [str(argument) for argument in arguments], 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(io.StringIO()) as complaints,
        described(spark, "longtail tests"),
    ):
        try:
            run_job(name, main, given)
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return subprocess.CompletedProcess([name, *given], status, said.getvalue(), complaints.getvalue())


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunJob:
    """`longtail ARGS` in the tests' Spark session and in the test's directory; raises on no exit status.

    Many times quicker than the fixture `longtail`, which is for what only a process of its own can show: the entry
    point, signals, the environment, a session with other settings.
    """
    monkeypatch.chdir(tmp_path)
    return partial(run_in_session, spark)


@pytest.fixture
def longtail(tmp_path: Path) -> RunJob:
    """`longtail ARGS` as a subprocess in the test's directory; never raises on a bad exit status."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPTS / "longtail", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def spark_submit(tmp_path: Path) -> RunJob:
    """`spark-submit [OPTIONS] spark_jobs/JOB.py ARGS` in an empty directory of its own."""

    def run(
        job: str, *arguments: object, submit: tuple[str, ...] = (), timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPTS / "spark-submit", *submit, REPOSITORY / "spark_jobs" / f"{job}.py", *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_LOCAL_IP": LOOPBACK,
                "SPARK_SUBMIT_OPTS": quick_java(),
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
