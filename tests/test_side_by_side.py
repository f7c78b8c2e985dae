"""Trainings in threads of one process learn what they learn alone, and fail alone."""

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.pretraining import PretrainMocoOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.spark_jobs.steps.side_by_side import PlannedTraining, train_side_by_side
from longtail.training.run import run_training
from longtail.training.run_directory import exclusive_run
from longtail.training.side_by_side import Training, run_side_by_side
from tests.events import events_in
from tests.tiny_set import ALONE, paths_of, same_tensors, tiny_options, weights_in

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = "ckpt.pth.tar"
COMMON = {"arch": "tests.test_precision:one_block", "epochs": 2}
TRAININGS: dict[str, RunOptions] = {
    "seed-0": tiny_options(TrainOptions, **COMMON, seed=0),
    "seed-1": tiny_options(TrainOptions, **COMMON, seed=1),
    "ldam": tiny_options(TrainOptions, **COMMON, loss_type="LDAM", train_rule="DRW"),
    "moco": tiny_options(PretrainMocoOptions, **COMMON),
}


def test_trainings_side_by_side_learn_what_they_learn_alone(set_dir: Path, tmp_path: Path) -> None:
    together = [
        Training(options, paths_of(set_dir, tmp_path / "together" / name), 1) for name, options in TRAININGS.items()
    ]
    results = run_side_by_side(together, ALONE)
    for (name, options), result in zip(TRAININGS.items(), results, strict=True):
        alone = tmp_path / "alone" / name
        assert run_training(options, paths_of(set_dir, alone), ALONE, attempt=1) == result
        assert same_tensors(
            *(weights_in(runs / name / "ckpt.pth.tar") for runs in (tmp_path / "together", alone.parent))
        )
    told = {event["run"] for event in events_in(*(tmp_path / "together" / "events").iterdir())}
    assert told == TRAININGS.keys()


def test_one_that_fails_ends_no_other(set_dir: Path, tmp_path: Path) -> None:
    diverging = tiny_options(TrainOptions, **COMMON, learning_rate=1e30)
    cases = {"diverging": diverging, "seed-0": TRAININGS["seed-0"]}
    trainings = [Training(options, paths_of(set_dir, tmp_path / name), 1) for name, options in cases.items()]
    error, result = run_side_by_side(trainings, ALONE)
    assert isinstance(error, UserError) and "lower --lr" in str(error)
    assert isinstance(result, dict) and (tmp_path / "seed-0" / "result.json").exists()


def test_a_stage_trains_what_nobody_else_works_on(spark: SparkSession, set_dir: Path, tmp_path: Path) -> None:
    finished, refused, busy, first, second = (
        tiny_options(TrainOptions, **COMMON, **changes, threads=1, runs_dir=tmp_path)
        for changes in ({"seed": 5}, {"batch_size": 1}, {"seed": 2}, {"seed": 3}, {"seed": 4})
    )
    trainings = [PlannedTraining(options, set_dir, None) for options in (finished, refused, busy, first, second)]
    run_training(finished, trainings[0].paths, ALONE, attempt=1)
    assert [training.is_finished for training in trainings] == [True, False, False, False, False]
    with exclusive_run(trainings[2].paths.run_dir):
        train_side_by_side(spark, trainings)
    assert [training.is_finished for training in trainings] == [True, False, False, True, True]
    alone = run_training(first, paths_of(set_dir, tmp_path / "alone"), ALONE, attempt=1)
    result = json.loads((trainings[3].paths.run_dir / "result.json").read_text())
    assert result["splits"] == alone["splits"]
