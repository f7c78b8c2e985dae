"""The table of all runs on the live page, without a browser."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from longtail.streaming.dashboard.notes import NO_NOTES, RunNotes
from longtail.streaming.dashboard.page import page_state, whole_page
from longtail.streaming.dashboard.run_table import PAGE_ROWS, SEVERAL_DATA_SETS, RunTable, run_table
from longtail.streaming.dashboard.selection import ALL_RUNS, Selection
from longtail.streaming.dashboard.table_rows import newest_first
from longtail.streaming.tables.descriptions import RunDescription
from tests.result_rows import table
from tests.test_dashboard_page import reader_of

CIFAR = {"dataset": "cifar10", "arch": "resnet32", "loss_type": "CE", "imb_factor": 0.01, "seed": 0}
RUNS = {
    "ce-0": ({}, 0.50), "ce-1": ({"seed": 1}, 0.54), "ldam-0": ({"loss_type": "LDAM"}, 0.60),
    "ldam-10": ({"loss_type": "LDAM", "seed": 10}, 0.64), "digits": ({"dataset": "digits"}, None),
}  # fmt: skip
NOTES = RunNotes(
    descriptions={
        "ce-1": RunDescription(display_name="Baseline <b>", tags=("paper", "tail"), note="to beat"),
        "digits": RunDescription(hidden=True),
    }
)


def tables_of(runs: Mapping[str, tuple[dict[str, Any], float | None]]) -> dict[str, pa.Table]:
    """The newest is the last. A run without a score has no epoch."""
    rows = [
        {"run": run, "configuration": json.dumps({**CIFAR, **options}), "started_at": float(i), "status": "finished"}
        for i, (run, (options, _)) in enumerate(runs.items())
    ]
    scores = [
        {"run": run, "split": split, "balanced_accuracy": score, "few_shot_accuracy": score / 2}
        for run, (_, score) in runs.items()
        if score is not None
        for split in ("test", "train")
    ]
    return {"runs": table("runs", *rows), "epochs": table("epochs", *scores)}


def shown(notes: RunNotes = NOTES, runs: Mapping[str, Any] = RUNS, **selected: Any) -> RunTable:
    tables = tables_of(runs)
    return run_table(newest_first(tables["runs"]), tables["epochs"], Selection(view=ALL_RUNS, **selected), notes)


def names(found: RunTable) -> list[str]:
    return [row.runs[0] for row in found.rows if not row.is_group]


def cells(found: RunTable, column: str) -> list[str]:
    """The texts of a column, groups included."""
    position = [column.name for column in found.columns].index(column)
    return [row.cells[position].text for row in found.rows]


def test_all_runs_but_hidden_ones_are_listed_the_newest_first_with_what_tells_them_apart() -> None:
    found = shown()
    assert names(found) == ["ldam-10", "ldam-0", "ce-1", "ce-0"]
    assert [row.title for row in found.rows][1:3] == ["cifar10, labels alone · LDAM · seed 0", "Baseline <b>"]
    assert [column.name for column in found.columns if column.differs] == ["loss_type", "seed"]
    assert cells(found, "balanced_accuracy") == ["64.0", "60.0", "54.0", "50.0"]
    assert (found.num_found, found.num_runs, found.num_hidden) == (4, 4, 1)
    assert names(shown(hidden=True))[0] == "digits"


def test_a_value_that_most_runs_do_not_have_is_marked() -> None:
    found = shown(find="seed=0", hidden=True)
    marked = [row.runs[0] for row in found.rows for cell in row.cells if cell.differs]
    assert marked == ["digits", "ldam-0"]
    assert not any(cell.differs for row in shown(find="loss_type=ce").rows for cell in row.cells)  # but the seed


@pytest.mark.parametrize(
    ("find", "found"),
    [
        ("LDAM", ["ldam-10", "ldam-0"]), ("ldam seed=0", ["ldam-0"]), ("seed=1", ["ce-1"]),
        ("paper", ["ce-1"]), ("beat baseline", ["ce-1"]), ("finished ce-0", ["ce-0"]),
        ("imb_factor=0.01 ce-", ["ce-1", "ce-0"]), ("arch=resnet20", []), ("<script>", []), (".*", []),
    ],
)  # fmt: skip
def test_runs_are_found_by_words_and_options(find: str, found: list[str]) -> None:
    assert names(shown(find=find)) == found


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("balanced_accuracy", ["ce-0", "ce-1", "ldam-0", "ldam-10", "digits"]),
        ("-balanced_accuracy", ["ldam-10", "ldam-0", "ce-1", "ce-0", "digits"]),  # without a score: last in both
        ("seed", ["digits", "ldam-0", "ce-0", "ce-1", "ldam-10"]),  # 10 after 1
        ("-started_at", ["digits", "ldam-10", "ldam-0", "ce-1", "ce-0"]),
        ("title", ["ce-1", "ce-0", "ldam-0", "ldam-10", "digits"]),
        ("tags", ["ce-1", "digits", "ldam-10", "ldam-0", "ce-0"]),
        ("nonsense", ["digits", "ldam-10", "ldam-0", "ce-1", "ce-0"]),
    ],
)
def test_runs_are_sorted_by_any_column(sort: str, order: list[str]) -> None:
    assert names(shown(sort=sort, hidden=True)) == order


def test_seeds_of_a_configuration_are_a_group_with_mean_and_deviation() -> None:
    found = shown(by="configuration", sort="balanced_accuracy")
    assert [(row.title, row.runs) for row in found.rows if row.is_group] == [
        ("cifar10, labels alone · CE", ("ce-0", "ce-1")), ("cifar10, labels alone · LDAM", ("ldam-0", "ldam-10")),
    ]  # fmt: skip
    assert cells(found, "balanced_accuracy") == ["52.0 ± 2.8", "50.0", "54.0", "62.0 ± 2.8", "60.0", "64.0"]
    assert cells(found, "loss_type") == ["CE", "CE", "CE", "LDAM", "LDAM", "LDAM"] and cells(found, "seed")[0] == ""


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("dataset", {"digits": 1, "cifar10": 4}), ("method", {"labels alone · CE": 3, "labels alone · LDAM": 2}),
        ("tags", {"–": 4, "paper, tail": 1}), ("seed", {"0": 3, "10": 1, "1": 1}), ("nonsense", {"–": 5}),
    ],
)  # fmt: skip
def test_runs_are_grouped_by_data_set_method_tags_or_any_option(by: str, groups: dict[str, int]) -> None:
    assert {row.title: len(row.runs) for row in shown(by=by, hidden=True).rows if row.is_group} == groups


@pytest.mark.parametrize(
    ("selected", "unknown"),
    [
        ({"by": "nonsense", "sort": "-nonsense", "columns": ("arch", "<b>")}, ["<b>", "nonsense"]),
        ({"by": "seed", "sort": "-balanced_accuracy", "columns": ("arch", "note")}, []),
        ({"by": "loss_type", "find": "arch=resnet9"}, []),  # no run is found, and there are runs that have it
    ],
)
def test_a_column_that_no_run_has_is_said(selected: dict[str, Any], unknown: list[str]) -> None:
    assert shown(**selected).unknown == unknown
    html = page_state(reader_of(tables_of(RUNS)), Selection(view=ALL_RUNS, **selected)).html["table"]
    assert ("No run has an option or a score “nonsense”" in html) == bool(unknown) and "<b>”" not in html


def test_a_run_s_source_is_named_by_what_it_did() -> None:
    runs = {"start": ({"epochs": 9}, None), "next": ({"resume": "/x/start/ckpt.pth.tar"}, 0.5)}
    found = shown(runs=runs, columns=("resume",), by="resume")
    assert cells(found, "resume") == ["labels alone", "labels alone", "", "–"]
    assert [row.title for row in found.rows if row.is_group] == ["labels alone", "–"]


def test_a_group_s_mean_is_of_its_finished_runs() -> None:
    tables = tables_of(RUNS)
    rows = [{**row, "status": "running"} if row["run"] == "ce-1" else row for row in tables["runs"].to_pylist()]
    found = run_table(rows, tables["epochs"], Selection(by="configuration", sort="balanced_accuracy"), NOTES)
    assert cells(found, "balanced_accuracy") == ["50.0", "50.0", "54.0", "62.0 ± 2.8", "60.0", "64.0"]


def test_scores_on_several_data_sets_have_no_mean() -> None:
    runs = {
        "a": ({}, 0.5), "b": ({"dataset": "digits"}, 0.9), "c": ({"dataset": "digits"}, None),
        "d": ({"loss_type": "LDAM", "dataset": "folder", "path": "birds"}, 0.4),
        "e": ({"loss_type": "LDAM", "dataset": "folder", "path": "fish"}, 0.6),
    }  # fmt: skip
    of_method = cells(shown(runs=runs, by="method", sort="title"), "balanced_accuracy")
    assert of_method == [SEVERAL_DATA_SETS, "50.0", "90.0", "–", SEVERAL_DATA_SETS, "40.0", "60.0"]
    assert cells(shown(runs=runs, by="dataset", sort="title", find="dataset=digits"), "balanced_accuracy")[0] == "90.0"


def test_the_reader_chooses_the_columns() -> None:
    found = shown(columns=("arch", "nonsense", "accuracy"))
    assert [column.title for column in found.columns] == ["arch", "accuracy"]
    assert {"dataset", "arch", "label_bias", "note"} <= {column.name for column in found.choices}
    link = Selection(view=ALL_RUNS).with_column("arch", ["arch", "accuracy"])
    assert link == "?view=runs&columns=accuracy"


def test_of_a_thousand_runs_a_page_is_shown() -> None:
    many = {f"run{i:04d}": ({"seed": i, "loss_type": ("CE", "LDAM")[i % 2]}, i / 1000) for i in range(1000)}
    first, last = shown(runs=many, by="loss_type"), shown(runs=many, by="loss_type", page=99)
    assert (len(names(first)), first.num_pages, last.page) == (PAGE_ROWS, 10, 10)
    assert names(first)[:2] == ["run0999", "run0997"] and names(last)[-1] == "run0000"
    assert [row.title for row in first.rows if row.is_group] == ["LDAM"] and len(first.rows[0].runs) == 500
    state = page_state(reader_of(tables_of(many)), Selection(view=ALL_RUNS))
    assert len(state.html["table"]) < 150_000 and "page 1 of 10" in state.html["table"]


def test_the_view_is_part_of_the_address_and_of_the_head_of_the_page() -> None:
    read = reader_of(tables_of(RUNS))
    one = whole_page(page_state(read, Selection(run="ce-0", compare=("ce-1",))))
    assert 'href="?compare=ce-0&amp;compare=ce-1&amp;view=runs"' in one and '<body data-view="">' in one
    state = page_state(read, Selection(view=ALL_RUNS, compare=("ce-0", "ce-1", "unknown")))
    assert '<body data-view="runs">' in whole_page(state) and state.title == "Runs – Longtail"
    assert 'href="?run=ce-0&amp;compare=ce-1#panel-comparison">Compare 2 runs' in state.html["table"]
    assert state.html["table"].count('aria-checked="true"') == 2
    assert not any(state.figures.values()) and "overview" not in state.html


def test_a_sorted_column_is_turned_round_by_the_next_click() -> None:
    chosen = Selection(view=ALL_RUNS)
    assert chosen.sorted_by("seed", falls_first=False) == "?view=runs&sort=seed"
    assert Selection(view=ALL_RUNS, sort="seed").sorted_by("seed", falls_first=False) == "?view=runs&sort=-seed"
    assert Selection(view=ALL_RUNS, sort="-loss").sorted_by("loss", falls_first=True) == "?view=runs&sort=loss"
    assert chosen.sorted_by("loss", falls_first=True) == "?view=runs&sort=-loss"


def test_nothing_that_runs_or_addresses_say_becomes_markup() -> None:
    evil = "<script>alert(1)</script>"
    runs = {"base": ({"dataset": evil, evil: evil, "seed": 1}, 0.5), "other": ({}, 0.25)}
    notes = RunNotes(descriptions={"base": RunDescription(display_name=evil, tags=(evil,), note=evil)})
    for selection in (
        Selection(view=ALL_RUNS, find=evil, sort=evil, by=evil, columns=(evil,), choose=True),
        Selection(view=ALL_RUNS, by="dataset", columns=(evil, "note", "tags"), choose=True),
    ):
        html = whole_page(page_state(reader_of(tables_of(runs)), selection, notes))
        assert evil not in html and "alert(1)" in html
        assert not re.search(r'href="(?!\?|data:,|page\.css|gallery\.css|#main")', html)


def test_half_a_character_in_an_option_hides_no_run() -> None:
    runs = {
        "base": ({"\ud800": 1, "n" * 5000: 2, "arch": "\ud800", "dataset": "\ud800", "loss_type": "\ud800"}, 0.5),
        "other": ({}, 0.25),
    }
    selection = Selection(view=ALL_RUNS, choose=True, by="method")
    table_html = page_state(reader_of(tables_of(runs)), selection).html["table"]
    assert "\\ud800" in table_html and table_html.encode() and "n" * 100 not in table_html


def test_without_runs_the_table_says_so() -> None:
    assert "No run has reported yet" in page_state(reader_of({}), Selection(view=ALL_RUNS), NO_NOTES).html["table"]
