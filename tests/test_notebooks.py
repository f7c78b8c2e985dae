"""The notebooks run from a clean state, top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_in_an_empty_directory(file: Path, tmp_path: Path):
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    tables = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    # The last table has epochs 1, 6, ... 36 of 40: the live view saw the run from first to last.
    assert "balanced_accuracy" in tables[-1]["data"]["text/plain"]
    assert "\n36 " in tables[-1]["data"]["text/plain"]
