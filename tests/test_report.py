"""The report: findings and tables from the rows, a self-contained page, one-line refusals."""

import io
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.conf.experiment import Experiment
from longtail.spark_jobs.report import main
from longtail.spark_jobs.studies.findings import findings
from longtail.spark_jobs.studies.report import write_report
from longtail.spark_jobs.studies.results import read_step_times, read_trials, write_definition
from tests.refusals import refused

EXPERIMENT = Experiment.model_validate(
    {
        "title": "Labels <b>& more</b>",
        "about": "A | B",
        "seeds": [0, 1, 2],
        "options": {"dataset": "digits"},
        "axes": {"D_U": {"none": {}, "with|out": {"imb_factor_unlabel": 1}}},
        "published": [{"at": {"D_U": "none"}, "error": 30}, {"at": {"D_U": "with|out"}, "error": 20}],
    }
)


def row(level: str, seed: int, accuracy: float) -> dict[str, Any]:
    return {
        "trial": f"{level}{seed}", "levels": {"D_U": level}, "seed": seed, "run": f"run-{seed}", "arch": "resnet20",
        "epochs": 3, "accuracy": accuracy, "balanced_accuracy": accuracy, "many_shot_accuracy": accuracy,
        "medium_shot_accuracy": None, "few_shot_accuracy": accuracy / 2,
        "pseudo_label_accuracy": None if level == "none" else 0.8, "class_names": ["a", "b"],
        "class_counts": [40, 2], "shot_groups": ["many", "few"], "class_accuracy": [accuracy, None],
        "confusion": [{"target": 0, "predicted": 0, "count": 5}], "copies": None, "seconds": 60.0,
        "finished_at": 1e9 + seed, "versions": {"torch": "2.15.0"}, "git_commit": None, "machine": "m, 2 cores",
    }  # fmt: skip


GAIN = [row("none", seed, 0.5 + seed / 100) for seed in range(3)] + [
    row("with|out", seed, 0.6 + seed / 50) for seed in range(3)
]


def report(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[str, str]:
    directory = write_report(EXPERIMENT, rows, tmp_path / "r")
    return (directory / "report.md").read_text(), (directory / "report.html").read_text()


def test_a_gain_that_every_pair_shows_is_supported():
    # Differences 0.10, 0.11, 0.12 of balanced accuracy.
    first = findings(EXPERIMENT, GAIN)[0]
    assert first.startswith("D_U: with|out against none, balanced accuracy: +11.0 points over 3 pairs (3 seeds), 95%")
    assert first.endswith("higher in 1 of 1 settings of the other axes: **the data supports a gain**.")


def test_a_loss_is_called_a_loss():
    lost = [row("none", seed, 0.6 + seed / 50) for seed in range(3)] + [
        row("with|out", seed, 0.5 + seed / 100) for seed in range(3)
    ]
    assert findings(EXPERIMENT, lost)[0].endswith("**the data supports a loss**.")


def test_differences_of_both_signs_support_neither_gain_nor_loss():
    mixed = [row("none", seed, 0.5) for seed in range(3)] + [
        row("with|out", seed, 0.5 + change) for seed, change in enumerate((-0.1, 0.05, 0.04))
    ]
    assert findings(EXPERIMENT, mixed)[0].endswith("**the data supports neither a gain nor a loss**.")


def test_one_level_alone_is_compared_with_nothing():
    assert findings(EXPERIMENT, GAIN[:3]) == ["No axis has trials at two levels: there is nothing to compare."]


def test_the_tables_hold_means_deviations_and_the_papers_errors(tmp_path: Path):
    markdown, _ = report(tmp_path, GAIN)
    assert "6 of 6 trials are finished, seeds 0, 1, 2." in markdown
    # 0.50, 0.51, 0.52: mean 51.0, deviation 1.0. No class is medium-shot, so there is no column for it.
    assert "medium-shot" not in markdown
    assert "| none | 3 | 51.0 ± 1.0 | 51.0 ± 1.0 | 25.5 ± 0.5 | - |" in markdown
    # 0.60, 0.62, 0.64: error 38.00, beside the paper's 20.
    assert "| with\\|out | 20.00 | 38.00 ± 2.00 | 3 |" in markdown
    assert "Of 1 pairs of these arms, 1 have the paper's order." in markdown
    assert markdown.count("| run-") == 6


def test_the_page_needs_nothing_but_itself_and_takes_titles_as_text(tmp_path: Path):
    _, page = report(tmp_path, GAIN)
    assert "<h1>Labels &lt;b&gt;&amp; more&lt;/b&gt;</h1>" in page
    assert page.count('<img src="data:image/png;base64,') == 5
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<td>with|out</td>" in page


def test_a_report_of_labels_alone_has_no_column_of_pseudo_labels(tmp_path: Path):
    assert "correct pseudo-labels" in report(tmp_path / "both", GAIN)[0]
    assert "correct pseudo-labels" not in report(tmp_path, GAIN[:3])[0]
    assert sorted(file.name for file in (tmp_path / "r").iterdir()) == [
        "arms.png", "bars.png", "classes.png", "confusion.png", "report.html", "report.md",
    ]  # fmt: skip


@pytest.mark.long
def test_copies_in_the_data_sets_are_told_with_the_trials_that_have_them(tmp_path: Path):
    assert "twice" not in report(tmp_path, GAIN)[0]
    line = "left out of the unlabeled part: 2 near copies of test images"
    first = [{**row, "copies": [line]} for row in GAIN[:2]] + [{**row, "copies": []} for row in GAIN[2:]]
    assert "## Images that the data sets have twice" in report(tmp_path, first)[0]
    assert f"\n- {line} (2 of 6 trials)\n" in report(tmp_path, first)[0]


@pytest.mark.parametrize("name", ["other", "../other"])
def test_an_experiment_that_never_ran_is_refused(tmp_path: Path, name: str):
    write_definition(tmp_path, EXPERIMENT, name="this")
    with refused() as messages:
        main([name, "--results_dir", str(tmp_path)])
    expected = f"{tmp_path} has no experiment other: there are this" if name == "other" else "EXPERIMENT ../other: "
    assert messages[0].startswith(expected)


def test_an_experiment_without_a_finished_trial_is_refused(tmp_path: Path):
    write_definition(tmp_path, EXPERIMENT, name="this")
    assert read_trials(tmp_path, "this") == []
    with refused() as messages:
        main(["this", "--results_dir", str(tmp_path)])
    assert messages[0] == "no trial of this is finished: run its `longtail experiment` command again"


def test_a_damaged_file_of_results_is_refused_by_name(tmp_path: Path):
    file = tmp_path / "trials" / "experiment=this" / "a.parquet"
    file.parent.mkdir(parents=True)
    without_levels = io.BytesIO()
    pq.write_table(pa.table({"trial": ["a"], "seed": [1]}), without_levels)
    for content in (b"", b"PAR1", without_levels.getvalue()):
        file.write_bytes(content)
        with refused() as messages:
            read_trials(tmp_path, "this")
        assert messages[0].startswith(f"{file} is damaged (")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"seconds": NaN}'])
def test_a_damaged_time_of_a_step_is_refused_by_name(tmp_path: Path, text: str):
    file = tmp_path / "step_times" / "a.json"
    file.parent.mkdir()
    file.write_text(text)
    with refused() as messages:
        read_step_times(tmp_path)
    assert messages[0].startswith(f"{file} is damaged (") and messages[0].endswith("delete it")
