"""The notebooks: each asks a question, which its stored outputs answer; all run in their order in one directory."""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import REPOSITORY
from tests.refusals import PROGRESS_LINE

CHARTS = {
    "1_long_tail": 2,
    "2_pseudo_labels": 2,
    "3_self_supervision": 3,
    "4_live_per_class": 2,
    "5_your_own_images": 2,
    "6_what_labels_are_worth": 1,
    "7_real_photos": 2,
}
"""The notebooks in their order, and how many images of charts each shows."""
NOTEBOOKS = {name: nbformat.read(REPOSITORY / f"notebooks/{name}.ipynb", as_version=4).cells for name in CHARTS}
SHORTER = {
    "eval_every=10": "eval_every=10, epochs=4",
    "epochs=40, ": "",
    '"exp_str": "watched"': '"exp_str": "watched", "epochs": 4',
    'exp_str="watched"': 'exp_str="watched", epochs=4',
    '"../docs/reports"': f'"{REPOSITORY}/docs/reports"',
}
"""Epochs of the trainings in the test: what is shown has the same form, and half of the time is theirs. And a path."""
TUTORIAL = REPOSITORY / "docs/tutorials/notebook.md"
REPORT = re.compile(r"docs/reports/\w+/report\.md")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w|\.\d)")
CHANGE = re.compile(r"([+-]\d+\.\d) points")
WORDS_OF_CHANGE = {"gain": "+", "lose": "-", "cost": "-"}


def answer_of(name: str) -> str:
    return NOTEBOOKS[name][-1].source


def shown_text(cells: list[NotebookNode]) -> str:
    """All that the outputs show as text."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


def unsupported_numbers(text: str, shown: str) -> set[str]:
    """Numbers of a text that the outputs do not show; where it names a report, the report may have them."""
    reports = (REPOSITORY / file for file in REPORT.findall(text))
    known = "\n".join([shown, *(report.read_text() for report in reports)])
    return {*NUMBER.findall(REPORT.sub("", text))} - {*NUMBER.findall(known)}


def unsupported_changes(text: str, shown: str) -> list[str]:
    """Sentences that call a change by a word that its sign in the outputs contradicts."""
    signs = {change[1:]: change[0] for change in CHANGE.findall(shown)}
    return [
        sentence
        for sentence in re.split(r"(?<=[.:;])\s", text.replace("\n", " "))
        for size in re.findall(r"(\d+\.\d) points", sentence)
        for word, sign in WORDS_OF_CHANGE.items()
        if re.search(rf"\b{word}", sentence) and signs.get(size, sign) != sign
    ]


def verdicts(text: str) -> dict[str, str]:
    """What is said of each way: `a gain`, `a loss` or `can't tell`."""
    return dict(re.findall(r"^(?:- )?([\w-]+): .*?(a gain|a loss|can't tell)", text, flags=re.MULTILINE))


def charts_of(cell: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def tables_of(cell: NotebookNode) -> list[tuple[int, int]]:
    """Rows and cells of the tables that a cell shows; galleries have as many images as there were mistakes."""
    pages = [output["data"].get("text/html", "") for output in cell.get("outputs", []) if "data" in output]
    return [(page.count("<tr"), page.count("<td")) for page in pages if "<table" in page]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[NotebookNode]]:
    """The cells of each notebook after a run of all in one directory, with a few epochs in each training.

    One kernel runs them all, and forgets every name between two: a kernel and a JVM for each would take longer to start
    than what most of them compute.
    """
    notebooks = {name: nbformat.read(REPOSITORY / f"notebooks/{name}.ipynb", as_version=4).cells for name in NOTEBOOKS}
    whole = nbformat.v4.new_notebook()
    for cell in (cell for cells in notebooks.values() for cell in cells):
        for longer, shorter in SHORTER.items():
            cell.source = cell.source.replace(longer, shorter)
    for cells in notebooks.values():
        whole.cells += [nbformat.v4.new_code_cell("%reset -f"), *cells]
    directory = str(tmp_path_factory.mktemp("notebooks"))
    NotebookClient(whole, timeout=900, resources={"metadata": {"path": directory}}).execute()
    return notebooks


@pytest.mark.long
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_in_their_order_in_one_directory_they_show_what_is_stored(
    executed: dict[str, list[NotebookNode]], name: str
) -> None:
    for stored, run in zip(NOTEBOOKS[name], executed[name], strict=True):
        assert tables_of(run) == tables_of(stored), stored.source
        if "clear_output" not in stored.get("source", ""):  # draws as often as there is time
            assert charts_of(run) == charts_of(stored), stored.source
        said = "".join(output.text for output in run.get("outputs", []) if output.get("name") == "stderr")
        assert re.sub(PROGRESS_LINE, "", said) == "", stored.source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_asks_answers_and_says_how_to_install_with_few_imports(name: str) -> None:
    cells = NOTEBOOKS[name]
    (package,) = re.findall(r"^%pip install .*", TUTORIAL.read_text(), flags=re.MULTILINE)
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    (question,) = re.findall(r"\*\*([^*]+\?)\*\*", texts[0].replace("\n", " "))
    assert f"| `{name}` | {question} |" in TUTORIAL.read_text()
    assert cells[-1].cell_type == "markdown" and texts[-1].startswith("**Answer.**")
    assert "docs/tutorials/notebook.md" in lines[0] and lines[1] == f"# {package}"
    imports = [line for line in lines if re.match(r"\s*(import|from)\s", line)]
    assert len(imports) <= 3
    assert [line for line in imports if "longtail" in line] == ["import longtail as lt"], "all goes through the API"
    assert not [line for line in lines if re.match(r"\s*(def|class)\s", line)], "no logic of its own"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_stored_outputs_are_of_one_clean_run_and_have_charts(name: str) -> None:
    code = [cell for cell in NOTEBOOKS[name] if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"]
    data = [output.data for output in outputs if "data" in output]
    assert not [one for one in data if one.get("text/plain", "").startswith("<Figure") and "image/png" not in one]
    assert sum(map(charts_of, code)) == CHARTS[name]
    assert (REPOSITORY / f"notebooks/{name}.ipynb").stat().st_size < 400_000


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_answer_says_what_the_outputs_show(name: str) -> None:
    answer, shown = answer_of(name), shown_text(NOTEBOOKS[name])
    assert NUMBER.findall(answer), "an answer in numbers"
    assert unsupported_numbers(answer, shown) == set()
    assert unsupported_changes(answer, shown) == []


def test_the_last_concludes_of_each_way_what_its_intervals_say() -> None:
    shown = shown_text(NOTEBOOKS["6_what_labels_are_worth"])
    concluded = verdicts(answer_of("6_what_labels_are_worth"))
    assert concluded == verdicts(shown) and concluded.keys() == {"pseudo-labels", "pre-trained"}
    for way, low, high in re.findall(r"^([\w-]+): .* interval ([+-][\d.]+) to ([+-][\d.]+)", shown, re.MULTILINE):
        assert concluded[way] == ("a gain" if float(low) > 0 else "a loss" if float(high) < 0 else "can't tell")


def test_an_answer_that_contradicts_the_outputs_is_found() -> None:
    shown = "balanced accuracy 76.4 % with labels, 71.2 % with both: -5.2 points\n69% of the pseudo-labels are right"
    assert unsupported_numbers("At 69 % right, 5.2 points less.", shown) == set()
    assert unsupported_numbers("At 79 % right, 5.3 points less.", shown) == {"79", "5.3"}
    assert unsupported_numbers("+2.0 in docs/reports/cifar10_both/report.md", shown) == set()
    assert unsupported_changes("They cost 5.2 points.", shown) == []
    assert unsupported_changes("They are right. They gain 5.2 points.", shown) == ["They gain 5.2 points."]


def test_every_notebook_is_in_the_order() -> None:
    assert sorted(file.stem for file in (REPOSITORY / "notebooks").glob("*.ipynb")) == list(NOTEBOOKS)
