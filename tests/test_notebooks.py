"""The notebooks run from a clean state, top to bottom, in the order of their numbers."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The tables and figures of each notebook as text.

    One kernel runs them all, and forgets every name between two: a kernel and a JVM for each would take longer to start
    than what most of them compute. The third has a directory of its own.
    """
    shared, own = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("third")
    notebooks = {file.stem: nbformat.read(file, as_version=4).cells for file in NOTEBOOKS}
    whole = nbformat.v4.new_notebook()
    for name, cells in notebooks.items():
        clean = [f"%cd -q {own if name.startswith('3') else shared}", "%reset -f"]
        whole.cells += [*map(nbformat.v4.new_code_cell, clean), *cells]
    NotebookClient(whole, timeout=300, resources={"metadata": {"path": str(shared)}}).execute()
    return {
        name: [
            output["data"]["text/plain"]
            for cell in cells
            for output in cell.get("outputs", [])
            if "text/plain" in output.get("data", {})
        ]
        for name, cells in notebooks.items()
    }


@pytest.mark.long
def test_the_first_shows_a_long_tail(shown: dict[str, list[str]]) -> None:
    tables = shown["1_long_tail"]
    assert "class_name" in tables[0] and "unlabeled" in tables[0]
    assert sum(text.startswith("<Figure") for text in tables) == 2
    # As its text says: 40 and 2 images, rho 20; about 2 in the unlabeled part, and 1 in the test set.
    found = [line.split()[:3] for line in tables[2].splitlines()[2:]]
    assert found == [["train", "131", "20.0"], ["unlabeled", "520", "2.0"], ["test", "500", "1.0"]]


@pytest.mark.long
def test_the_second_trains_labels_and_trains_again_and_the_fourth_compares(shown: dict[str, list[str]]) -> None:
    tables = shown["2_pseudo_labels"]
    assert "train_semi" in tables[-3] and "rho_unlabeled" in tables[-1]
    compared = shown["4_what_labels_are_worth"]
    assert "gain" in compared[-1] and sum(text.startswith("<Figure") for text in compared) == 3


@pytest.mark.long
def test_the_third_watches_a_training_from_first_to_last(shown: dict[str, list[str]]) -> None:
    tables = shown["3_live_per_class"]
    # The last table has epochs 1, 6, ... 36 of 40: the live view saw the run from first to last.
    assert "balanced_accuracy" in tables[-1]
    assert "\n36 " in tables[-1]
    assert any(text.startswith("<Figure") for text in tables)


def test_the_first_asks_answers_and_says_how_to_install_with_one_import() -> None:
    file = REPOSITORY / "docs/tutorials/notebook.md"
    (package,) = re.findall(r"^%pip install .*", file.read_text(), flags=re.MULTILINE)
    cells = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert re.search(r"\*\*[^*]+\?\*\*", texts[0]) and texts[-1].startswith("**Answer.**")
    assert "so rho is 20" in texts[-1]
    assert "docs/tutorials/notebook.md" in lines[0] and lines[1] == f"# {package}"
    assert [line for line in lines if line.startswith(("import ", "from "))] == ["import longtail as lt"]
    outputs = [output.data for cell in cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in outputs) == 2


def test_the_notebooks_define_no_logic_and_keep_small_outputs() -> None:
    assert [file.stem for file in NOTEBOOKS] == [
        "1_long_tail", "2_pseudo_labels", "3_live_per_class", "4_what_labels_are_worth",
    ]  # fmt: skip
    for file in NOTEBOOKS:
        cells = nbformat.read(file, as_version=4).cells
        assert not [cell.source for cell in cells if cell.cell_type == "code" and "def " in cell.source]
        assert file.stat().st_size < 400_000
