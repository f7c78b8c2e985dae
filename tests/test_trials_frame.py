"""The trials of an experiment in a notebook (spark_jobs/api/trials.py)."""

from pathlib import Path

import pytest

import longtail as lt
from longtail.conf.experiment import Experiment
from longtail.spark_jobs.studies.kept_trials import keep_trials
from tests.conftest import REPOSITORY
from tests.refusals import refused
from tests.test_report import row

REPORTS = REPOSITORY / "docs/reports"


def test_a_report_s_trials_have_a_column_for_each_axis_and_all_that_was_measured() -> None:
    found = lt.trials(REPORTS / "two_cores_ssp/trials.parquet")
    assert len(found) == len(found.drop_duplicates(["rule", "SSP", "seed"]))
    assert found["SSP"].cat.categories.tolist()[0] == "none"
    assert found.groupby("rule", observed=True)["balanced_accuracy"].mean().between(0.1, 1).all()
    one = found.iloc[0]
    assert len(one["class_names"]) == len(one["class_accuracy"]) == 10
    text = (REPORTS / "two_cores_ssp/report.md").read_text()
    assert f"{100 * one['balanced_accuracy']:.1f} |" in text and one["run"] in text


def test_the_levels_are_in_the_order_of_the_experiment_and_an_axis_takes_the_place_of_a_column(tmp_path: Path) -> None:
    axes = {"epochs": {"many": {"epochs": 9}, "few": {"epochs": 2}}}
    experiment = Experiment.model_validate(
        {"title": "t", "about": "a", "seeds": [0], "options": {"dataset": "digits"}, "axes": axes}
    )
    rows = [
        row("none", seed, 0.5) | {"levels": {"epochs": level}}
        for seed, level in enumerate(["few", "many", "of an earlier file"])
    ]
    keep_trials(tmp_path / "trials.parquet", experiment, rows)
    found = lt.trials(str(tmp_path / "trials.parquet"))
    assert found["epochs"].tolist() == ["few", "many", "of an earlier file"]
    assert found["epochs"].cat.categories.tolist() == ["many", "few", "of an earlier file"]
    assert found["seed"].tolist() == [0, 1, 2] and found.columns.tolist().count("epochs") == 1


@pytest.mark.parametrize("file", [REPORTS / "none.parquet", REPOSITORY / "setup.py"])
def test_a_file_that_is_no_table_of_trials_is_refused(file: Path) -> None:
    with refused() as messages:
        lt.trials(file)
    assert str(file) in messages[0]
