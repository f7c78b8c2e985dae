"""A package that is not installed: one line that says what needs it and how to install it."""

import subprocess
import sys
from pathlib import Path

import pytest

from longtail.conf.base.missing_packages import not_installed
from longtail.spark_jobs.cluster.failures import user_message
from tests.conftest import REPOSITORY

HIDING = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
import longtail as lt
from longtail.conf.base.errors import UserError
"""
SPARK = ["pyspark", "py4j"]


def without(hidden: list[str], code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program in a Python that lacks these packages."""
    command = [sys.executable, "-c", HIDING.format(hidden=hidden) + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_needs_spark_says_so_in_one_line_where_there_is_none() -> None:
    done = without(
        SPARK,
        """
needing = []
for name in sorted(lt.__all__):
    try:
        getattr(lt, name)
    except UserError as error:
        assert error.__suppress_context__
        assert str(error).startswith(f"longtail.{name} needs Spark, and pyspark is not installed: pip install ")
        needing.append(name)
print(*needing)
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "Dashboard", "Dataset", "Live", "calibrate", "dashboard", "evaluate", "live", "prepare", "pretrain",
        "pseudo_labels", "train", "train_semi", "trials",
    ]  # fmt: skip


def test_a_checkpoint_predicts_arrays_without_spark_and_says_what_takes_frames() -> None:
    done = without(
        SPARK,
        """
import numpy as np

model = lt.load(sys.argv[1], arch="tests.written_network:small")
print(*model.predict_batch(np.zeros((2, 8, 8, 1), np.uint8)).class_name)
for call in (lambda: model.predict([1]), lambda: model.register(None, "classify")):
    try:
        call()
    except UserError as error:
        print(error)
""",
        REPOSITORY / "tests" / "written_by_0.2" / "ckpt.pth.tar",
    )
    assert done.returncode == 0, done.stderr
    names, of_predict, of_register = done.stdout.splitlines()
    assert all(name.isdigit() for name in names.split())
    assert of_predict.startswith("predict() takes a Spark DataFrame, not a list: ")
    assert of_register == "register() takes a Spark session, not a NoneType: give register(spark, name)"


@pytest.mark.parametrize(
    ("start", "hidden", "says"),
    [
        (
            "from longtail.__main__ import main as start",
            SPARK,
            "longtail: error: the command longtail needs Spark, and ",
        ),
        (
            "from longtail.training.__main__ import run_command as start",
            ["torch"],
            "python -m longtail.training: error: a training needs the module torch, which is not installed: install ",
        ),
    ],
)
def test_commands_say_what_is_missing_in_one_line(start: str, hidden: list[str], says: str) -> None:
    done = without(hidden, f"{start}\nsys.argv[1:] = ['train']\nstart()")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)


def test_a_package_that_a_job_imports_later_is_the_user_s_to_install_and_a_module_of_longtail_is_not() -> None:
    missing = ModuleNotFoundError("No module named 'sklearn.tree'", name="sklearn.tree")
    assert str(user_message(missing)).startswith("this job needs the module sklearn, which is not installed: install")
    own = ModuleNotFoundError("No module named 'longtail.nothing'", name="longtail.nothing")
    assert not_installed(own, needed_by="this job") is None and user_message(own) is None


def test_the_line_names_the_versions_of_spark_that_longtail_takes() -> None:
    message = not_installed(ModuleNotFoundError("", name="py4j.protocol"), needed_by="this")
    assert "pip install 'pyspark<5,>=4.1" in str(message)
