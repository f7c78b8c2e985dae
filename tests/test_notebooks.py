"""The notebooks run from a clean state, top to bottom, in the order of their numbers, in one directory."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


def run(name: str, directory: Path) -> list[str]:
    """Run a notebook in the directory; its tables and figures as text."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(directory)}}).execute()
    return [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/plain" in output.get("data", {})
    ]


@pytest.mark.long
def test_the_first_shows_a_long_tail(directory: Path) -> None:
    shown = run("1_long_tail", directory)
    assert "class_name" in shown[0] and "unlabeled" in shown[0]
    assert sum(text.startswith("<Figure") for text in shown) == 2


@pytest.mark.long
def test_the_second_trains_labels_and_trains_again_and_the_fourth_compares(directory: Path) -> None:
    shown = run("2_pseudo_labels", directory)
    assert "train_semi" in shown[-3] and "rho_unlabeled" in shown[-1]
    compared = run("4_what_labels_are_worth", directory)
    assert "gain" in compared[-1] and sum(text.startswith("<Figure") for text in compared) == 3


@pytest.mark.long
def test_the_third_watches_a_training_from_first_to_last(tmp_path: Path) -> None:
    shown = run("3_live_per_class", tmp_path)
    # The last table has epochs 1, 6, ... 36 of 40: the live view saw the run from first to last.
    assert "balanced_accuracy" in shown[-1]
    assert "\n36 " in shown[-1]
    assert any(text.startswith("<Figure") for text in shown)


def test_the_notebooks_define_no_logic_and_keep_small_outputs() -> None:
    assert [file.stem for file in NOTEBOOKS] == [
        "1_long_tail", "2_pseudo_labels", "3_live_per_class", "4_what_labels_are_worth",
    ]  # fmt: skip
    for file in NOTEBOOKS:
        cells = nbformat.read(file, as_version=4).cells
        assert not [cell.source for cell in cells if cell.cell_type == "code" and "def " in cell.source]
        assert file.stat().st_size < 400_000
