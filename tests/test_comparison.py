"""Runs compared on the live page: seeds of one configuration together, any number of runs, axes that fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from longtail.streaming.dashboard import table_reader
from longtail.streaming.dashboard.class_axis import class_axis
from longtail.streaming.dashboard.comparison import arm_scores, compared_arms, other_seeds
from longtail.streaming.dashboard.comparison_figures import class_changes, mean_and_spread, score_of_arms
from longtail.streaming.dashboard.comparison_panel import MAX_BARS
from longtail.streaming.dashboard.notes import NO_NOTES, RunNotes
from longtail.streaming.dashboard.page import PageState, page_state
from longtail.streaming.dashboard.phases import CLASSES
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.style import RUN_COLOURS, arm_style, fitted_share_axis
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.tables.descriptions import RunDescription
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.writing import write_run
from tests.result_rows import class_rows, table
from tests.test_dashboard_page import reader_of

CIFAR = {"dataset": "cifar10", "loss_type": "CE", "imb_factor": 0.01, "seed": 0}


def row(run: str, *, phase: str = "train", **options: Any) -> dict[str, Any]:
    return {"run": run, "phase": phase, "configuration": json.dumps({**CIFAR, **options})}


ROWS = [row("ce-0"), row("ldam-0", loss_type="LDAM"), row("ce-1", seed=1), row("ldam-2", loss_type="LDAM", seed=2)]


def test_runs_that_differ_in_their_seed_alone_are_one_arm() -> None:
    ce, ldam = compared_arms(ROWS, NO_NOTES)
    assert (ce.title, ce.runs, ce.seeds, ce.options) == ("CE", ("ce-0", "ce-1"), "0, 1", {"loss_type": "CE"})
    assert (ldam.title, ldam.runs) == ("LDAM", ("ldam-0", "ldam-2"))
    assert other_seeds("ce-1", {one["run"]: one for one in ROWS}) == ("ce-0",)


def test_arms_of_other_tasks_are_named_with_them_and_a_single_run_by_its_user() -> None:
    notes = RunNotes(descriptions={run: RunDescription(display_name="Mine") for run in ("ce-0", "semi")})
    arms = compared_arms([*ROWS, row("semi", phase="train_semi")], notes)
    assert [arm.title for arm in arms] == ["cifar10, labels alone · CE", "cifar10, labels alone · LDAM", "Mine"]


def test_runs_without_options_are_arms_of_their_own_with_different_titles() -> None:
    rows = [
        {"run": run, "phase": "mine", "configuration": text} for run, text in (("a", ""), ("b", "[1]"), ("c", None))
    ]
    assert [(arm.title, arm.runs) for arm in compared_arms(rows, NO_NOTES)] == [
        ("mine · a", ("a",)), ("mine · b", ("b",)), ("mine · c", ("c",)),
    ]  # fmt: skip
    assert other_seeds("a", {one["run"]: one for one in rows}) == ()


def test_the_scores_of_an_arm_are_means_with_their_deviations_and_differences() -> None:
    scores = {"ce-0": 0.5, "ce-1": 0.54, "ldam-0": 0.6, "ldam-2": 0.64}
    epochs = table("epochs", *({"run": run, "balanced_accuracy": score} for run, score in scores.items()))
    ce, ldam = arm_scores(epochs, compared_arms(ROWS, NO_NOTES), CLASSES.compared, epoch=1)
    assert ce[0] == {"text": "52.0 ± 2.8", "difference": None, "better": None}
    assert ldam[0] == {"text": "62.0 ± 2.8", "difference": "+10.0", "better": True}
    assert ldam[2] == {"text": "–", "difference": None, "better": None}  # no medium-shot class


def test_a_difference_that_rounds_to_nothing_is_neither_better_nor_worse() -> None:
    scores = {"ce-0": 0.5, "ce-1": 0.54, "ldam-0": 0.5196, "ldam-2": 0.52}
    epochs = table("epochs", *({"run": run, "balanced_accuracy": score} for run, score in scores.items()))
    _, ldam = arm_scores(epochs, compared_arms(ROWS, NO_NOTES), CLASSES.compared, epoch=1)
    assert (ldam[0]["difference"], ldam[0]["better"]) == ("+0.0", None)


def test_a_mean_is_of_the_runs_that_have_the_epoch() -> None:
    epochs = table(
        "epochs", {"run": "a"}, {"run": "a", "epoch": 2, "balanced_accuracy": 0.7},
        {"run": "b", "balanced_accuracy": 0.7}, {"run": "b", "epoch": 3, "balanced_accuracy": None},
    )  # fmt: skip
    at, means, spreads, counts = mean_and_spread(epochs, ["a", "b", "gone"], "balanced_accuracy")
    assert (at, counts.tolist()) == ([1, 2, 3], [2, 1, 0])
    np.testing.assert_allclose(means, [0.6, 0.7, np.nan])
    np.testing.assert_allclose(spreads, [0.1 * np.sqrt(2), 0, 0])


def test_several_seeds_are_a_band_and_a_line_a_single_run_is_a_line() -> None:
    epochs = table("epochs", {"run": "a"}, {"run": "b", "balanced_accuracy": 0.7}, {"run": "c", "epoch": 2})
    arms = {"two": ["a", "b"], "one": ["c"]}
    band, two, one = score_of_arms(epochs, arms, CLASSES.compared[0], view="v").data
    assert (
        band.fill == "toself"
        and list(two.y) == [0.6]
        and list(band.y) == pytest.approx([0.6 + 0.02**0.5, 0.6 - 0.02**0.5])
    )
    assert (two.line.color, one.line.color, list(one.x)) == (*RUN_COLOURS[:2], [2])
    assert two.line.dash != one.line.dash  # not by colour alone


def test_twenty_five_lines_look_different() -> None:
    assert len({arm_style(index) for index in range(25)}) == 25
    assert len({arm_style(index)[0] for index in range(5)}) == len({arm_style(index)[1] for index in range(5)}) == 5


@pytest.mark.parametrize(
    ("values", "bounds", "tickformat"),
    [
        ([0.2, np.nan, 0.6], (0.18, 0.62), ".0%"), ([0.5, 0.52], (0.495, 0.525), ".1%"), ([0.5], (0.495, 0.505), ".1%"),
        ([0.0, 1.0], (-0.01, 1.02), ".0%"), ([np.nan], (-0.01, 1.02), ".0%"),
        ([0.0, 0.0], (-0.001, 0.025), ".1%"),
    ],
)  # fmt: skip
def test_an_axis_fits_what_is_drawn(values: list[float], bounds: tuple[float, float], tickformat: str) -> None:
    axis = fitted_share_axis(np.array(values))
    assert axis["range"] == pytest.approx(bounds) and axis["tickformat"] == tickformat


def test_changes_are_above_the_reference_class_by_class() -> None:
    axis = class_axis(class_rows({0: [0.5], 1: [0.25]}), max_rows=10)
    changes = class_changes(np.array([0.5, 0.25]), {"LDAM": np.array([0.25, 1.0])}, axis, view="v")
    (bars,) = changes.data
    assert list(bars.y) == [-0.25, 0.75] and bars.marker.color == RUN_COLOURS[1]


def compared(num_runs: int) -> PageState:
    """Runs of two seeds each; class 0 of run i is right in a share of i / 100."""
    rows = [row(f"run{i}", loss_type=f"loss{i // 2}", seed=i % 2) for i in range(num_runs)]
    tables = {
        "runs": table("runs", *rows),
        "epochs": table("epochs", *({"run": one["run"], "balanced_accuracy": i / 100} for i, one in enumerate(rows))),
        "class_epochs": pa.concat_tables(class_rows({0: [i / 100], 1: [0.5]}, run=f"run{i}") for i in range(num_runs)),
    }
    selection = Selection(run="run0", compare=tuple(one["run"] for one in rows[1:]))
    return page_state(reader_of(tables), selection)


def test_any_number_of_runs_is_compared() -> None:
    state = compared(60)
    note = state.html["note-comparison"]
    assert note.count('<th scope="row">') == 30 and "mean ± standard deviation" in note and "loss_type" in note
    assert len(state.figures["compared_balanced"].data) == 60  # a band and a line each
    bars = state.figures["class_changes"].data
    assert len(bars) == MAX_BARS - 1 and f"The bars show the first {MAX_BARS}" in note
    assert list(bars[0].y) == pytest.approx([0.025 - 0.005, 0.0])


def test_seeds_of_the_shown_run_alone_have_a_band_and_nothing_to_differ_from() -> None:
    state = compared(2)
    assert state.figures["class_changes"] is None and len(state.figures["compared_balanced"].data) == 2


def test_a_comparison_is_brought_into_view_when_it_is_asked_for() -> None:
    rows = [row("run0"), row("run1", seed=1)]
    tables = {"runs": table("runs", *rows), "epochs": table("epochs", *({"run": one["run"]} for one in rows)),
              "class_epochs": class_rows({0: [0.5]}, run="run0")}  # fmt: skip
    state = page_state(reader_of(tables), Selection(run="run0"))
    assert (
        'href="?run=run0&amp;compare=run1#panel-comparison">Show it with 1 other seed<' in state.html["note-comparison"]
    )
    assert 'href="?run=run0&amp;compare=run1#panel-comparison"' in state.html["runs"]  # + compare
    assert "#" not in page_state(reader_of(tables), Selection(run="run0", compare=("run1",))).html["runs"]


def test_small_runs_stay_in_memory_and_large_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(12):
        rows = class_rows({0: [0.5]}, run=f"run{i:02d}")
        manifest = RunManifest(run=f"run{i:02d}", segment_epochs={"class_epochs": 1000, "epochs": 1000, "steps": 100})
        write_run(tmp_path, manifest, {"class_epochs": {"0": rows}}, {"runs": table("runs", {}).to_pylist()})

    def remembered() -> int:
        """Of twelve runs that were read once, those that are not read from their files again."""
        reader = TableReader(tmp_path)
        names = [f"run{i:02d}" for i in range(12)]
        assert all(len(reader.read("class_epochs", name)) for name in names)
        for file in tmp_path.glob("runs/*/*.parquet"):
            file.rename(file.with_suffix(".gone"))
        found = sum(bool(len(reader.read("class_epochs", name))) for name in names)
        for file in tmp_path.glob("runs/*/*.gone"):
            file.rename(file.with_suffix(".parquet"))
        return found

    assert remembered() == 12
    monkeypatch.setattr(table_reader, "CACHED_BYTES", 0)
    assert remembered() == 8
