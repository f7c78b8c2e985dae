"""The Spark session of a notebook, in which every job and API function runs (notebook_process.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import longtail as lt
from longtail.spark_jobs.cli import JOBS
from tests.cluster import quick_processes
from tests.conftest import REPOSITORY

ENDINGS = {
    "relay without the connector": "status 2",
    "too few slots": "status 2",
    "another master": "status 2",
    "a failing training": "status 2",
    "an interrupted training": "status 130",
    "an interrupted monitor": "status 130",
    "an interrupted dashboard": "status 130",
    "lt.train of a wrong option": "UserError",
    "an interrupted lt.train": "KeyboardInterrupt",
}
"""Of the steps that do not end well."""
FUNCTIONS = {
    "prepare", "pretrain", "train", "pseudo_labels", "train_semi", "evaluate", "calibrate", "load", "live", "dashboard",
    "label_quality", "trials",
}  # fmt: skip


@pytest.mark.long
def test_every_job_and_function_leaves_the_session_of_a_notebook_as_it_found_it(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.notebook_process", tmp_path],
        env={**os.environ, **quick_processes()},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1800,
    )

    assert process.returncode == 0, process.stderr[-4000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert {name: step["changed"] for name, step in told.items() if step["changed"]} == {}
    assert {name: step["ended"] for name, step in told.items()} == {name: ENDINGS.get(name, "well") for name in told}
    ran = " ".join(told)
    assert not [job for job in JOBS if job not in ran], "every job runs"
    offered = {name for name in lt.__all__ if callable(getattr(lt, name)) and name[0].islower()}
    assert offered == FUNCTIONS, "a new function runs there too"
    assert not [name for name in FUNCTIONS if f"lt.{name}" not in ran]
