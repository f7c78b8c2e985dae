"""The report: findings and tables from the rows, a self-contained page, one-line refusals."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.conf.experiment import Experiment
from longtail.data.kept_predictions import kept_rows, write_kept
from longtail.spark_jobs.report import main
from longtail.spark_jobs.studies.findings import findings
from longtail.spark_jobs.studies.overview import overview_markdown, write_overview
from longtail.spark_jobs.studies.power import power_statements
from longtail.spark_jobs.studies.report import write_report
from longtail.spark_jobs.studies.results import read_step_times, read_trials, write_definition
from longtail.spark_jobs.studies.words import words_used
from tests.prepared_set import image_rows, write_manifest, write_split
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
        "pseudo_label_accuracy": None if level == "none" else 0.8, "pseudo_label_head_precision": None,
        "pseudo_label_tail_precision": None, "class_names": ["a", "b"],
        "class_counts": [40, 2], "shot_groups": ["many", "few"], "class_accuracy": [accuracy, None],
        "confusion": [{"target": 0, "predicted": 0, "count": 5}], "copies": None, "seconds": 60.0,
        "finished_at": 1e9 + seed, "versions": {"torch": "2.15.0"}, "git_commit": None, "machine": "m, 2 cores",
        "rounds": 1, "optimizer_steps": 12, "earlier_optimizer_steps": 0, "note": None,
    }  # fmt: skip


GAIN = [row("none", seed, 0.5 + seed / 100) for seed in range(3)] + [
    row("with|out", seed, 0.6 + seed / 50) for seed in range(3)
]


def report(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[str, str]:
    directory = write_report(EXPERIMENT, rows, tmp_path / "r")
    return (directory / "report.md").read_text(), (directory / "report.html").read_text()


def test_a_gain_that_every_pair_shows_is_supported():
    # Differences 0.10, 0.11, 0.12 of balanced accuracy: t = 0.11 / (0.01 / sqrt 3) = 19.05, p = 1 - t / sqrt(2 + t^2).
    (first,) = findings(EXPERIMENT, GAIN)
    assert first.startswith("D_U: with|out against none: balanced accuracy: **a gain**, +11.0 points (95% interval")
    assert "p = 0.003, 3 pairs, 3 seeds); few-shot accuracy: **a gain**, +5.5 points" in first


def test_a_loss_is_called_a_loss():
    lost = [row("none", seed, 0.6 + seed / 50) for seed in range(3)] + [
        row("with|out", seed, 0.5 + seed / 100) for seed in range(3)
    ]
    assert "balanced accuracy: **a loss**, -11.0 points" in findings(EXPERIMENT, lost)[0]


MIXED = [row("none", seed, 0.5) for seed in range(3)] + [
    row("with|out", seed, 0.5 + change) for seed, change in enumerate((-0.1, 0.05, 0.04))
]


def test_of_differences_of_both_signs_the_data_cannot_tell_and_which_it_could_have_shown_is_said():
    # Their deviation is 8.39 points; of three seeds a t-test shows 3.26 deviations, 80 % of the time.
    (found,) = findings(EXPERIMENT, MIXED)
    assert found.startswith("D_U: with|out against none: balanced accuracy: **can't tell**, -0.3 points (")
    assert "3 seeds show 27.4 or more)" in found


def test_one_seed_allows_no_test():
    (found,) = findings(EXPERIMENT, [row("none", 0, 0.5), row("with|out", 0, 0.7)])
    assert "**can't tell**, +20.0 points (1 pairs, 1 seed: one seed allows no test)" in found


def test_a_report_begins_with_what_the_experiment_says_and_its_picture(tmp_path: Path):
    markdown, _ = report(tmp_path, MIXED)
    heads = [line for line in markdown.splitlines() if line.startswith(("## ", "!["))]
    assert heads[:3] == [
        "## What it says", "## Paired differences, with 95 % intervals",
        "![Paired differences, with 95 % intervals](differences.png)",
    ]  # fmt: skip
    assert "does not mean that there is no difference" in markdown
    assert (
        "- balanced accuracy: D_U: 3 seeds show, 80% of the time, differences of 27.4 points or more (that vary by 8.4 "
        "between seeds); 6 seeds would show 12.0." in markdown
    )


def test_unequal_budgets_of_training_are_told(tmp_path: Path):
    equal = [{**row, "optimizer_steps": 12} for row in GAIN]
    assert "All trials train for 3 epochs, 12 optimizer steps." in report(tmp_path / "equal", equal)[0]
    unequal = [{**row, "optimizer_steps": 12 if row["levels"]["D_U"] == "none" else 1500} for row in GAIN]
    markdown = report(tmp_path / "unequal", unequal)[0]
    assert "The trials train for 3 epochs, 12 to 1,500 optimizer steps: a difference" in markdown
    assert "| with\\|out | 3 | 3 | 1,500 | 0 |" in markdown
    unknown = report(tmp_path / "unknown", [{**row, "optimizer_steps": None} for row in GAIN])[0]
    assert "optimizer steps" not in unknown and "| with\\|out | 3 | 3 | - | 0 |" in unknown


def test_the_table_of_a_paper_is_there_as_csv_and_latex(tmp_path: Path):
    report(tmp_path, GAIN)
    lines = (tmp_path / "r" / "scores.csv").read_text().splitlines()
    assert lines[0].startswith("D_U,seeds,balanced_mean,balanced_deviation,many_mean,many_deviation,medium_mean,")
    # 0.60, 0.62, 0.64 and half of that; no class is medium-shot.
    assert lines[2] == "with|out,3,62.00,2.00,62.00,2.00,,,31.00,1.00"
    latex = (tmp_path / "r" / "scores.tex").read_text()
    assert r"D\_U & All & Many & Medium & Few \\" in latex
    assert r"with|out & $62.0 \pm 2.0$ & $62.0 \pm 2.0$ & -- & $31.0 \pm 1.0$ \\" in latex


def test_a_report_is_made_anew_from_the_trials_that_it_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ids = {(*trial.levels.values(), trial.options["seed"]): trial.trial_id for trial in EXPERIMENT.trials()}
    before, _ = report(tmp_path, [{**row, "trial": ids[row["levels"]["D_U"], row["seed"]]} for row in GAIN])
    main(["this", "--trials", str(tmp_path / "r" / "trials.parquet"), "--output_dir", str(tmp_path / "anew")])
    assert (tmp_path / "anew" / "this" / "report.md").read_text() == before
    assert "D_U: with|out against none: balanced accuracy: **a gain**" in capsys.readouterr().out


def test_a_file_without_an_experiment_is_no_table_of_a_report(tmp_path: Path):
    pq.write_table(pa.table({"trial": ["a"]}), tmp_path / "other.parquet")
    with refused() as messages:
        main(["this", "--trials", str(tmp_path / "other.parquet"), "--output_dir", str(tmp_path)])
    assert messages[0].startswith(f"{tmp_path / 'other.parquet'} has no experiment in it: name the trials.parquet")


def test_trials_of_which_only_scores_are_known_have_a_report_with_a_note(tmp_path: Path):
    classes = dict.fromkeys(("class_names", "class_counts", "shot_groups", "class_accuracy", "confusion"))
    known = [{**row, **classes, "note": "scores alone"} for row in GAIN]
    markdown, _ = report(tmp_path, known)
    assert "**6 of 6 trials:** scores alone" in markdown
    assert sorted(file.stem for file in (tmp_path / "r").glob("*.png")) == [
        "arms", "differences", "label_gains", "pseudo_labels",
    ]  # fmt: skip


def test_few_shot_images_of_each_combination_are_a_page_of_their_own(tmp_path: Path) -> None:
    """Of the runs that are on this machine; of the others, and without any, there is none."""
    set_dir, configuration = tmp_path / "set", json.dumps({"runs_dir": str(tmp_path / "runs")})
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    write_split(set_dir, "test", image_rows([7, 8, 9, 10], pixels, labels=[0, 0, 1, 1]))
    manifest = write_manifest(set_dir, {"test": [2, 2]}, image_shape=(2, 2, 3))
    kept = kept_rows(np.array([7, 8, 9, 10]), np.array([0, 1, 0, 1]), np.full(4, 0.75), np.array([0, 0, 1, 1]))
    write_kept(tmp_path / "runs" / "run-0", "test", kept, manifest, set_dir=set_dir, epoch=3)
    rows = [{**one, "configuration": configuration} for one in GAIN[:3]]
    rows += [{**GAIN[3], "configuration": configuration, "run": "../run-0"}, *GAIN[4:]]
    markdown, page = report(tmp_path, rows)
    assert "(images.html)" in markdown and 'href="images.html"' in page
    images = (tmp_path / "r" / "images.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", images) == ["none: few-shot images, seed 0"]
    assert re.findall(r'alt="image (\d+)', images) == ["9", "10"], "mistakes, then what was recognised"
    set_dir.rename(tmp_path / "elsewhere")
    assert "(images.html)" not in report(tmp_path, rows)[0] and not (tmp_path / "r" / "images.html").exists()


def test_a_report_explains_the_words_of_the_papers_that_it_uses(tmp_path: Path) -> None:
    markdown, _ = report(tmp_path, MIXED)
    words = markdown.split("The words:")[1].split("##")[0]
    assert re.findall(r"^- \*(.*?)\*: ", words, re.MULTILINE) == [
        "balanced accuracy", "few-shot", "D_U", "pairs, settings",
    ]  # fmt: skip
    of_both = "\n".join(words_used("CE against LDAM-DRW at rho_U = 1"))
    assert all(f"*{word}*" in of_both for word in ("CE", "LDAM", "DRW", "rho_U")) and "*rho*" not in of_both


def test_one_page_compares_all_experiments_of_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_report(EXPERIMENT, GAIN, tmp_path / "one")
    write_report(EXPERIMENT, MIXED, tmp_path / "two")
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "trials.parquet").write_bytes(b"PAR1")
    assert write_overview(tmp_path) == tmp_path / "index.html"
    assert "left out of the page of all reports: " in capsys.readouterr().out
    told, untold = (tmp_path / "index.md").read_text().split("## Can't tell")
    assert "- *D_U*: unlabeled images" in told and "6 of 6 trials, 3 seeds." in untold
    assert "| [one](one/report.md) | D_U | with\\|out | none | balanced accuracy | +11.0 |" in told
    assert "[two]" not in told and "| [two](two/report.md) | D_U |" in untold and "[three]" not in untold
    assert '<a href="one/report.html">one</a>' in (tmp_path / "index.html").read_text()


def test_equal_differences_tell_nothing_of_what_the_seeds_show() -> None:
    """As where no run recognises any few-shot image."""
    equal = [
        row(level, seed, 0.2 + seed / 100 + 0.05 * (level != "none"))
        for level in ("none", "with|out")
        for seed in (0, 1, 2)
    ]
    assert "or more" not in findings(EXPERIMENT, equal)[0]
    zero = [row(level, seed, 0.0) for level in ("none", "with|out") for seed in (0, 1, 2)]
    assert "**can't tell**, +0.0 points" in (said := findings(EXPERIMENT, zero)[0]) and "or more" not in said
    (told,) = power_statements(EXPERIMENT, equal, num_seeds=3, score="balanced_accuracy")
    assert told == "D_U: all seeds have equal differences, which does not tell how much others vary."


def test_a_title_that_asks_keeps_its_mark_and_few_comparisons_are_wrong_less_than_once() -> None:
    asked = EXPERIMENT.model_copy(update={"title": "Does it help?"})
    text = overview_markdown({"one": (asked, GAIN)}, link="report.md")
    assert ": Does it help? 6 of 6 trials" in text and "it would be less than one." in text


def test_one_seed_is_one_seed(tmp_path: Path) -> None:
    assert "2 of 6 trials, 1 seed." in overview_markdown({"one": (EXPERIMENT, [GAIN[0], GAIN[3]])}, link="report.md")


def test_one_level_alone_is_compared_with_nothing():
    assert findings(EXPERIMENT, GAIN[:3]) == ["No axis has trials at two levels: there is nothing to compare."]


def test_the_tables_hold_means_deviations_and_the_papers_errors(tmp_path: Path):
    markdown, _ = report(tmp_path, GAIN)
    assert "6 of 6 trials are finished, seeds 0, 1, 2." in markdown
    # 0.50, 0.51, 0.52: mean 51.0, deviation 1.0. No class is medium-shot, so there is no column for it.
    assert "medium-shot" not in markdown
    assert "| none | 3 | 3 | 12 | 0 | 51.0 ± 1.0 | 51.0 ± 1.0 | 25.5 ± 0.5 | - |" in markdown
    # 0.60, 0.62, 0.64: error 38.00, beside the paper's 20.
    assert "| with\\|out | 20.00 | 38.00 ± 2.00 | 3 |" in markdown
    assert "Of 1 pairs of these arms, 1 have the paper's order." in markdown
    assert markdown.count("| run-") == 6


def test_the_page_needs_nothing_but_itself_and_takes_titles_as_text(tmp_path: Path):
    _, page = report(tmp_path, GAIN)
    assert "<h1>Labels &lt;b&gt;&amp; more&lt;/b&gt;</h1>" in page
    assert page.count('<img src="data:image/png;base64,') == 7
    # What it links to, and does not need, are the files of scores and trials beside it.
    linked = set(re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page))
    assert linked == {"scores.csv", "scores.tex", "trials.parquet"}
    assert "<td>with|out</td>" in page


def test_a_report_of_labels_alone_has_no_column_of_pseudo_labels(tmp_path: Path):
    assert "correct pseudo-labels" in report(tmp_path / "both", GAIN)[0]
    assert "correct pseudo-labels" not in report(tmp_path, GAIN[:3])[0]
    assert sorted(file.name for file in (tmp_path / "r").iterdir()) == [
        "arms.png", "bars.png", "classes.png", "confusion.png", "report.html", "report.md", "scores.csv",
        "scores.tex", "trials.parquet",
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


def test_a_report_says_which_seeds_have_no_trial_yet_and_nothing_of_scores_that_nothing_has(tmp_path: Path):
    without_few = [one | {"few_shot_accuracy": None} for one in GAIN if one["seed"] == 0]
    markdown, _ = report(tmp_path, without_few)
    assert "2 of 6 trials are finished, seed 0; none of 1, 2." in markdown
    assert "few-shot" not in markdown.partition("## Which differences")[2].partition("##")[0]
    whole, _ = report(tmp_path, GAIN)
    assert "- few-shot accuracy: " in whole.partition("## Which differences")[2].partition("##")[0]


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
