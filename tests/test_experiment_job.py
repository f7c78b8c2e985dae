"""`experiment` and `report` as a user runs them: real trainings on the embedded digits."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from longtail.conf.experiment import read_experiment
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.studies import ExperimentOptions
from longtail.conf.vocabulary import TRAIN
from longtail.data.contract import ID
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.studies.plan import plan
from longtail.spark_jobs.studies.results import read_step_times, read_trials
from longtail.spark_jobs.studies.run import run_experiment
from longtail.streaming.runs.descriptions import read_descriptions
from tests.cluster import quick_workers
from tests.conftest import SCRIPTS, RunJob

FILE = """
title: Digits
seeds: [0, 1]
options: {dataset: digits, epochs: 2, threads: 1}
pretraining: {epochs: 1}
axes:
  D_U: {none: {}, balanced: {imb_factor_unlabel: 1, unlabel_size_factor: 1}}
  SSP: {none: {}, rotation: {pretraining_job: pretrain_rot}}
shown: [{SSP: none}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(FILE)
    return path


def _runs(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.glob("runs/*/ckpt.pth.tar")}


@pytest.mark.long
def test_an_experiment_runs_its_grid_once_whatever_kills_it(
    job: RunJob, file: Path, tmp_path: Path, spark: SparkSession
):
    command = [SCRIPTS / "longtail", "experiment", file]
    killed = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, **quick_workers()}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("results/trials/experiment=two/*.parquet"))) < 2:
        assert killed.poll() is None and time.monotonic() < deadline, "no two trials were finished"
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    # As if it had been killed between a table of pseudo-labels and the quality of these.
    for quality in tmp_path.glob("runs/*/pseudo_labels/*/*.quality.json"):
        quality.unlink()
    before = _runs(tmp_path)

    done = job("experiment", file, "--side_by_side", "2")
    assert done.returncode == 0, done.stderr
    rows = read_trials(tmp_path / "results", "two")
    # 2 levels of D_U, 2 of SSP, 2 seeds.
    assert len({(*row["levels"].values(), row["seed"]) for row in rows}) == len(rows) == 8
    # Of each seed: a pre-training, two base trainings, which are the labellers too, and two with pseudo-labels.
    assert len(_runs(tmp_path)) == 2 * (1 + 2 + 2)
    assert before.items() <= _runs(tmp_path).items()
    described = read_descriptions(tmp_path / "runs")
    assert {path.parent.name for path in _runs(tmp_path)} == described.keys()
    assert {description.tags for description in described.values()} == {("two",)}
    for row in rows:
        result = json.loads((tmp_path / "runs" / row["run"] / "result.json").read_text())
        assert row["balanced_accuracy"] == result["splits"]["test"]["balanced_accuracy"]
        assert (row["pseudo_label_accuracy"] is None) == (row["levels"]["D_U"] == "none")
    assert all(taken.seconds > 0 for taken in read_step_times(tmp_path / "results").values())
    # One table, to Spark as well.
    counted = spark.read.parquet(str(tmp_path / "results/trials")).groupBy("experiment").count().collect()
    assert [tuple(row) for row in counted] == [("two", 8)]

    again = job("experiment", file)
    assert "two: 8 trials, 8 of them done already" in again.stdout and again.returncode == 0
    assert "two: D_U none" not in again.stdout and "(2 seeds)" in again.stdout
    report = job("report", "two")
    assert report.returncode == 0, report.stderr
    assert "D_U: balanced against none: balanced accuracy: " in report.stdout
    assert (tmp_path / "results/reports/two/report.html").stat().st_size > 10_000
    # Of the two arms without pre-training, at the first seed.
    features = [pq.read_table(file) for file in tmp_path.glob("results/features/experiment=two/*.parquet")]
    assert [table.num_rows for table in features] == [500, 500]
    assert (tmp_path / "results/reports/two/maps.png").exists()


def test_a_dry_run_shows_the_steps_and_writes_nothing(job: RunJob, file: Path, tmp_path: Path):
    done = job("experiment", file, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "8 trials, 16 steps (32 if none were shared)" in done.stdout
    assert "262" in done.stdout  # 131 images, two epochs
    # 131 images are 2 steps of 128 per epoch; the training with pseudo-labels has batches of its own, of both parts.
    assert "The trials train for 2 epochs, " in done.stdout
    assert "2 seeds show, 80% of the time, a difference of 11.5 times its standard deviation" in done.stdout
    assert list(tmp_path.iterdir()) == [file]


def test_a_bad_experiment_is_one_line_and_leaves_nothing_behind(job: RunJob, file: Path, tmp_path: Path):
    file.write_text(FILE.replace("epochs: 2", "epochs: 0"))
    done = job("experiment", file)
    assert done.returncode == 2
    where = f"{file}, trial D_U none, SSP none, seed 0"
    assert done.stderr.startswith(f"longtail experiment: error: {where}: train: --epochs 0:")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.long
@pytest.mark.parametrize("name", ["two_cores_ssp", "two_cores_unlabeled_50", "two_cores_labels"])
def test_an_experiment_on_real_cifar10_runs_on_a_few_digits_in_its_place(
    name: str, spark: SparkSession, tmp_path: Path
):
    small = {"dataset": "digits", "n_max": 16, "imb_factor": 0.1, "epochs": 1, "eval_every": 1, "precision": "float32"}
    experiment = read_experiment(name)
    axes = {axis: levels for axis, levels in experiment.axes.items() if axis not in ("rule", "amount")}
    labels = axes.get("labels", {})
    for level, options in labels.items():
        if "labeller" in options:
            labels[level] = {**options, "labeller": {"n_max": 10}}
    ratio = {} if name == "two_cores_ssp" else {"unlabel_size_factor": 1, "unlabeled_ratio": 1}
    changes = {"options": {**experiment.options, **small, **ratio}, "axes": axes, "labeller": {}, "published": ()}
    few = experiment.model_copy(update={**changes, "seeds": (0,)})
    options = ExperimentOptions(
        experiment="few.yaml",
        threads=1,
        data_dir=tmp_path,
        runs_dir=tmp_path / "runs",
        results_dir=tmp_path / "results",
    )
    trials = plan(few, source="few.yaml", common=options.step_options())

    run_experiment(spark, options, few, trials)

    rows = read_trials(tmp_path / "results", "few")
    assert len(rows) == len(trials)
    assert len({row["optimizer_steps"] for row in rows}) == len({row["epochs"] for row in rows}) == 1
    if labels:
        correct = {row["levels"]["labels"]: row["pseudo_label_accuracy"] for row in rows}
        assert correct["none"] is None and correct["all true"] == 1
        assert correct["all true"] > correct["20 % wrong"] > correct["40 % wrong"] > 0.3


@pytest.mark.long
def test_the_labelled_images_are_the_same_with_and_without_an_unlabeled_part(spark: SparkSession, tmp_path: Path):
    """What lets trials with and without D_U share their base classifier."""
    ids = []
    for unlabeled in (None, 1.0, 0.1):
        options = PrepareOptions(
            imb_factor=0.05, n_max=40, imb_factor_unlabel=unlabeled, unlabel_size_factor=1, data_dir=tmp_path
        )
        rows = pq.read_table(prepare(spark, options) / "rows" / f"split={TRAIN}", columns=[ID])
        ids.append(sorted(rows.column(ID).to_pylist()))
    assert len(ids[0]) == 131 and ids[0] == ids[1] == ids[2]
