"""Experiment files: which trials a grid has, what is refused and how."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from longtail.conf.experiment import Experiment, read_experiment
from longtail.spark_jobs.cluster.code_zip import write_code_zip
from tests.refusals import refused

AXES = {"rule": {"CE": {}, "DRW": {"train_rule": "DRW"}}, "D_U": {"none": {}, "balanced": {"imb_factor_unlabel": 1}}}


def experiment(**parts: Any) -> Experiment:
    return Experiment.model_validate({"title": "t", "seeds": [3, 5], "axes": AXES, **parts})


def refusal(tmp_path: Path, content: str) -> str:
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with refused() as messages:
        read_experiment(file)
    return messages[0].removeprefix(f"{file}: ").removeprefix(f"{file} ")


def test_every_combination_of_levels_is_a_trial_with_every_seed():
    trials = experiment().trials()
    assert [(*trial.levels.values(), trial.options["seed"]) for trial in trials] == [
        ("CE", "none", 3), ("CE", "none", 5), ("CE", "balanced", 3), ("CE", "balanced", 5),
        ("DRW", "none", 3), ("DRW", "none", 5), ("DRW", "balanced", 3), ("DRW", "balanced", 5),
    ]  # fmt: skip


def test_options_of_a_level_override_the_options_of_all_trials():
    trials = experiment(options={"train_rule": "Resample", "epochs": 7}).trials()
    assert [trial.options["train_rule"] for trial in trials if trial.options["seed"] == 3] == [
        "Resample", "Resample", "DRW", "DRW",
    ]  # fmt: skip
    assert {trial.options["epochs"] for trial in trials} == {7}


def test_a_trial_with_an_unlabeled_part_is_semi_supervised():
    assert [trial.is_semi_supervised for trial in experiment(seeds=[0]).trials()] == [False, True, False, True]


def test_the_id_of_a_trial_changes_with_its_options_and_not_with_the_title():
    ids = [trial.trial_id for trial in experiment().trials()]
    assert len(set(ids)) == 8
    assert [trial.trial_id for trial in experiment(title="other").trials()] == ids
    assert not {trial.trial_id for trial in experiment(options={"epochs": 7}).trials()} & set(ids)


def test_a_published_figure_holds_at_its_levels_and_the_more_exact_one_takes_precedence():
    found = experiment(
        published=[{"at": {"rule": "CE"}, "error": 30}, {"at": {"rule": "CE", "D_U": "none"}, "error": 20}]
    )
    assert found.published_error({"rule": "CE", "D_U": "none"}) == 20
    assert found.published_error({"rule": "CE", "D_U": "balanced"}) == 30
    assert found.published_error({"rule": "DRW", "D_U": "none"}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML: while parsing"),
        ("title: t\nseeds: [0]\n", "axes: field required"),
        ("title: t\nseeds: []\naxes: {a: {b: {}}}\n", "seeds []: tuple should have at least 1 item"),
        ("title: t\nseeds: [0]\naxes: {a: {}}\n", "axis a has no level"),
        ("title: t\nseeds: [1, 1]\naxes: {a: {b: {}}}\n", "seeds [1, 1]: each seed may be listed only once"),
        (
            "title: t\nseeds: [0]\naxes: {a: {b: {seed: 1}}}\n",
            "axis a sets seed: list the trials' seeds under seeds",
        ),
        (
            "title: t\nseeds: [0]\naxes: {a: {x: {lr: 1}}, b: {y: {lr: 2}}}\n",
            "axes a and b both set lr: an option belongs to one axis",
        ),
        (
            "title: t\nseeds: [0]\naxes: {a: {b: {}}}\npublished: [{at: {a: c}, error: 3}]\n",
            "published error 3 is at a: c, which no axis has",
        ),
        ("title: t\nseeds: [0]\naxes: {a: {b: {}}}\nshown: [{c: b}]\n", "shown has c: b, which no axis has"),
        ("title: t\nseeds: [0]\naxes: {a: {b: {pretraining_job: moco}}}\n", "pretraining_job moco: choose one of"),
        ("title: t\nseeds: [0]\naxes: {a: {b: {classifier: cRT}}}\n", "classifier must be options of train_classifier"),
        ("title: t\nseeds: [0]\nsteps: 3\naxes: {a: {b: {}}}\n", "steps: unknown key"),
    ],
)
def test_what_is_no_experiment_is_refused_in_a_line(tmp_path: Path, content: str, message: str):
    assert message in refusal(tmp_path, content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with refused() as messages:
        read_experiment(tmp_path / "none.yaml")
    assert messages[0] == f"cannot read the experiment {tmp_path / 'none.yaml'}: No such file or directory"


def test_a_packaged_experiment_is_read_by_its_name_and_a_file_by_its_path(tmp_path: Path):
    assert read_experiment("digits_small").options["dataset"] == "digits"
    file = tmp_path / "digits_small.yaml"
    file.write_text(f"title: other\nseeds: [0]\naxes: {AXES}\n")
    assert read_experiment(str(file)).title == "other"


def test_svhn_is_mirrored_where_published_errors_are_compared_with():
    experiment = read_experiment("svhn_semi")
    assert experiment.published and experiment.options["horizontal_flip"] == "always"


def test_an_unknown_name_is_refused_with_the_packaged_names():
    with refused() as messages:
        read_experiment("digit_small")
    assert messages[0].startswith(
        "there is no experiment 'digit_small' (did you mean digits_small?): choose one of amount_small, cifar100_ssp, "
    )
    assert messages[0].endswith("two_cores_unlabeled_rest, or give the path of a YAML file")


def test_packaged_files_are_read_from_a_zip(tmp_path: Path):
    """As they are on a cluster that got the code by --py-files."""
    write_code_zip(tmp_path / "longtail.zip")
    code = (
        "import longtail; from longtail.conf.experiment import read_experiment; "
        "from longtail.conf.theory_grid import read_grid; "
        "print(longtail.__file__, read_experiment('digits_small').seeds, len(read_grid('theorems').sweeps))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "longtail.zip")}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'longtail.zip'}/longtail/__init__.py (0, 1, 2) ")


def test_what_is_written_as_json_is_the_same_experiment(tmp_path: Path):
    before = experiment(options={"epochs": 7}, published=[{"at": {"rule": "CE"}, "error": 30}])
    file = tmp_path / "x.json"
    file.write_text(before.model_dump_json())
    assert yaml.safe_load(file.read_text())["seeds"] == [3, 5]
    assert read_experiment(file) == before
