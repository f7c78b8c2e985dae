"""Evaluation by Spark tasks (spark_jobs/steps/evaluation.py): scores and features of the in-process evaluation."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.options.calibrate import CalibrateOptions
from longtail.conf.options.inference import EvaluateOptions
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.kept_predictions import read_kept
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.steps import evaluation
from longtail.spark_jobs.steps.calibration import calibrate_checkpoint
from longtail.spark_jobs.steps.checkpoint_options import training_of_checkpoint
from longtail.spark_jobs.steps.evaluation import evaluate_checkpoint
from longtail.training.calibration import fit_calibration
from longtail.training.checkpoint_evaluation import run_evaluation
from longtail.training.checkpoints import load_checkpoint, save_checkpoint
from longtail.training.inference import class_offsets, load_classifier_checkpoint, losses
from longtail.training.run import run_training
from tests.conftest import RunJob
from tests.prepared_set import reorder_classes
from tests.refusals import PROGRESS_LINE, refused
from tests.tiny_set import ALONE, paths_of, tiny_options, write_tiny_set

# LDAM: its loss needs the class sizes, its cosines a scale.
LOSS = {"loss_type": "LDAM"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def set_dir(directory: Path) -> Path:
    return write_tiny_set(directory / "set")


@pytest.fixture(scope="module")
def checkpoint(directory: Path, set_dir: Path) -> Path:
    paths = paths_of(set_dir, directory / "run")
    run_training(tiny_options(TrainOptions, epochs=12, **LOSS), paths, ALONE, attempt=1)
    return paths.run_dir / "ckpt.pth.tar"


def in_process(directory: Path, set_dir: Path, checkpoint: Path, **values: Any) -> dict[str, Any]:
    """What `longtail train -e` says."""
    options = tiny_options(TrainOptions, resume=checkpoint, evaluate=True, **LOSS, **values)
    return run_evaluation(options, paths_of(set_dir, directory / "unused"), ALONE)


def options_for(checkpoint: Path, **values: Any) -> EvaluateOptions:
    return EvaluateOptions(dataset="digits", resume=checkpoint, many_shot=20, few_shot=10, **values)


def assert_alike(found: Any, expected: Any) -> None:
    """The same keys, numbers and lists; floating-point numbers but for the order in which they were added up."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_alike(found[key], value)
    elif isinstance(expected, list) and expected and isinstance(expected[0], float) or isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    else:
        assert found == expected


@pytest.mark.parametrize("logit_adjustment", [None, pytest.param(1.0, marks=pytest.mark.long)])
def test_the_scores_are_those_of_the_in_process_evaluation(
    spark: SparkSession,
    directory: Path,
    set_dir: Path,
    checkpoint: Path,
    logit_adjustment: float | None,
    tmp_path: Path,
) -> None:
    options = options_for(checkpoint, output_dir=tmp_path, logit_adjustment=logit_adjustment)

    output_dir, found = evaluate_checkpoint(spark, options, set_dir=set_dir)

    expected = in_process(directory, set_dir, checkpoint, logit_adjustment=logit_adjustment)
    assert set(expected["splits"]) == {VAL, TEST}
    assert_alike(found, {**expected, "run": found["run"]})
    written = json.loads((output_dir / "scores.json").read_text())
    assert len(written.pop("model_version")) == 64 and written == found
    assert "probabilities" not in pq.read_table(output_dir / "predictions.parquet").column_names


def test_an_evaluation_keeps_the_predictions_that_an_older_training_has_not_kept(
    spark: SparkSession, set_dir: Path, checkpoint: Path, tmp_path: Path
) -> None:
    of_training = {split: read_kept(checkpoint.parent, split) for split in (VAL, TEST)}
    shutil.rmtree(checkpoint.parent / "predictions")
    options = options_for(checkpoint, output_dir=tmp_path, splits="test")
    evaluate_checkpoint(spark, options, set_dir=set_dir)
    kept, expected = read_kept(checkpoint.parent, TEST), of_training[TEST]
    assert kept is not None and expected is not None and read_kept(checkpoint.parent, VAL) is None
    assert kept.rows.drop_columns("confidence").equals(expected.rows.drop_columns("confidence"))
    assert np.allclose(kept.rows["confidence"].to_numpy(), expected.rows["confidence"].to_numpy(), atol=1e-5)
    assert (kept.epoch, kept.set_dir, kept.set_identity) == (12, expected.set_dir, expected.set_identity)
    evaluate_checkpoint(spark, options_for(checkpoint, output_dir=tmp_path, logit_adjustment=1.0), set_dir=set_dir)
    assert read_kept(checkpoint.parent, VAL) is None, "of other outputs than those of the run"


@pytest.mark.parametrize(("ends_in", "left"), [("table_scores", "old"), ("write_json_atomically", "none")])
def test_scores_are_never_of_other_predictions_when_an_evaluation_ends_early(
    spark: SparkSession,
    set_dir: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends_in: str,
    left: str,
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "scores.json").write_text("old")
    (tmp_path / "predictions.parquet").mkdir()
    monkeypatch.setattr(evaluation, ends_in, ended)
    with pytest.raises(KeyboardInterrupt):
        evaluate_checkpoint(spark, options_for(checkpoint, output_dir=tmp_path), set_dir=set_dir)
    scores = tmp_path / "scores.json"
    assert (scores.read_text() if scores.exists() else "none") == left
    assert any((tmp_path / "predictions.parquet").iterdir()) == (left == "none")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_scores_of_a_published_checkpoint_are_those_of_the_same_weights(
    spark: SparkSession, directory: Path, set_dir: Path, checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    tensors = {f"module.{name}": tensor for name, tensor in content["state_dict"].items()}
    torch.save({"epoch": 12, "arch": "resnet20", "state_dict": tensors}, tmp_path / "theirs.pth.tar")

    _, found = evaluate_checkpoint(spark, options_for(tmp_path / "theirs.pth.tar"), set_dir=set_dir)

    expected = in_process(directory, set_dir, checkpoint)
    assert_alike(found, {**expected, "run": tmp_path.name, "best_on_validation": None})


def test_a_published_checkpoint_that_is_calibrated_on_its_data_set_needs_no_set_any_more(
    spark: SparkSession, set_dir: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, theirs = torch.load(checkpoint, weights_only=True), tmp_path / "theirs.pth.tar"
    torch.save({"epoch": 12, "arch": "resnet20", "state_dict": content["state_dict"]}, theirs)
    monkeypatch.setattr("longtail.training.calibration.MIN_IMAGES", 6)
    calibrate_checkpoint(spark, CalibrateOptions(dataset="digits", resume=theirs), set_dir=set_dir)

    metadata = load_classifier_checkpoint(tmp_path / "calibrated.pth.tar").metadata
    own = load_classifier_checkpoint(checkpoint).metadata
    assert metadata is not None and own is not None and metadata.calibration is not None
    assert (metadata.class_names, metadata.head, metadata.logit_scale) == (own.class_names, own.head, own.logit_scale)
    assert metadata.normalisation.mean == pytest.approx(own.normalisation.mean)
    assert training_of_checkpoint(tmp_path / "calibrated.pth.tar") == []
    with refused() as messages:
        load_classifier_checkpoint(theirs)
    assert "make one of it by `longtail calibrate` with the --dataset that it was trained on" in messages[0]


@pytest.mark.long
def test_features_of_every_image_are_those_of_the_in_process_export(
    spark: SparkSession, directory: Path, set_dir: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = options_for(
        checkpoint,
        output_dir=tmp_path,
        probabilities=True,
        features=True,
        splits="train,val,unlabeled,test",
        batch_size=64,
    )
    output_dir, result = evaluate_checkpoint(spark, options, set_dir=set_dir)
    rows = {row["id"]: row for row in pq.read_table(output_dir / "predictions.parquet").to_pylist()}

    assert set(result["splits"]) == {TRAIN, VAL, TEST}
    manifest = read_manifest(set_dir)
    for split in manifest.counts:
        ids = load_split(set_dir, split, manifest).ids
        assert {i for i, row in rows.items() if row["split"] == split} == set(ids.tolist())
    assert all(
        (row["loss"] is None) == (row["label"] is None) == (row["split"] == "unlabeled") for row in rows.values()
    )
    assert all(np.float32(max(row["probabilities"])) == np.float32(row["confidence"]) for row in rows.values())
    in_process(directory, set_dir, checkpoint, features=tmp_path / "features.parquet")
    for expected in pq.read_table(tmp_path / "features.parquet").to_pylist():
        found = rows[expected["id"]]
        assert (found["split"], found["label"], found["predicted"]) == (
            expected["split"], expected["label"], expected["predicted"],
        )  # fmt: skip
        np.testing.assert_allclose(found["features"], expected["features"], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_the_job_takes_the_data_set_from_the_checkpoint_and_says_what_the_training_said(
    job: RunJob, tmp_path: Path
) -> None:
    trained = job("train", "--epochs", 2, "--n_max", 30)
    assert trained.returncode == 0, trained.stderr
    (checkpoint,) = tmp_path.glob("runs/*/ckpt.pth.tar")
    done = job("evaluate", "--resume", checkpoint)
    assert done.returncode == 0 and re.sub(PROGRESS_LINE, "", done.stderr) == ""
    scores = [line for line in trained.stdout.splitlines() if line.startswith(("last epoch:", "most often mistaken:"))]
    assert len(scores) == 3 and all(line in done.stdout for line in scores)
    assert f"evaluation: {checkpoint.parent / 'evaluation'}" in done.stdout


def test_parts_without_labels_have_nothing_to_score(
    spark: SparkSession, directory: Path, set_dir: Path, checkpoint: Path
) -> None:
    with pytest.raises(UserError, match="has no labelled images in unlabeled: choose other --splits, or --features"):
        evaluate_checkpoint(spark, options_for(checkpoint, splits="unlabeled"), set_dir=set_dir)


def test_losses_and_adjustment_take_the_class_counts_that_the_training_took(checkpoint: Path) -> None:
    """With --class_counts labelled, the counts of loss and rule leave the pseudo-labelled images out."""
    metadata = load_checkpoint(checkpoint).metadata
    assert metadata is not None
    with_pseudo_labels = dataclasses.replace(metadata, class_counts=[30, 30, 30], rule_counts=[20, 10, 2])

    offsets = class_offsets(with_pseudo_labels, logit_adjustment=2.0)
    assert offsets == pytest.approx([-2 * math.log(share) for share in (20 / 32, 10 / 32, 2 / 32)])

    logits, labels = torch.tensor([[0.5, 0.2, 0.1]]), torch.tensor([1])
    # LDAM: margins 0.5 (2 / n)^(1/4), the logits times 30.
    margin = 0.5 * (2 / 10) ** 0.25
    others = math.exp(30 * 0.5) + math.exp(30 * 0.1)
    own = math.exp(30 * (0.2 - margin))
    loss = losses(checkpoint, with_pseudo_labels, 30 * logits, labels)
    assert loss.item() == pytest.approx(-math.log(own / (own + others)), rel=1e-5)


REORDER = [2, 0, 1]


@pytest.fixture(scope="module")
def reordered_set(directory: Path, set_dir: Path) -> Path:
    """The same images with the classes in another order."""
    copy = shutil.copytree(set_dir, directory / "reordered")
    reorder_classes(copy, REORDER)
    return copy


def by_class(result: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Sums by split and class name."""
    return {
        split: {
            name: [sums[class_id] for sums in scores["totals"].values()]
            for class_id, name in enumerate(result["class_names"])
        }
        for split, scores in result["splits"].items()
    }


@pytest.fixture(scope="module")
def calibrated(directory: Path, checkpoint: Path) -> Path:
    """The checkpoint with a temperature and biases, as of images of which class 2 is predicted too often."""
    labels = np.random.default_rng(0).integers(0, 3, 60)
    probabilities = np.full((60, 3), [0.1, 0.1, 0.8])
    probabilities[np.arange(60), labels] += 0.5
    loaded = load_checkpoint(checkpoint)
    assert loaded.metadata is not None
    metadata = dataclasses.replace(
        loaded.metadata, calibration=fit_calibration(probabilities / probabilities.sum(axis=1, keepdims=True), labels)
    )
    save_checkpoint(directory / "calibrated.pth.tar", dataclasses.replace(loaded, metadata=metadata))
    return directory / "calibrated.pth.tar"


@pytest.mark.parametrize("logit_adjustment", [None, 1.0])
def test_classes_in_another_order_are_evaluated_by_their_names(
    spark: SparkSession,
    directory: Path,
    set_dir: Path,
    reordered_set: Path,
    checkpoint: Path,
    calibrated: Path,
    logit_adjustment: float | None,
    tmp_path: Path,
) -> None:
    checkpoint = checkpoint if logit_adjustment is None else calibrated
    expected = in_process(directory, set_dir, checkpoint, logit_adjustment=logit_adjustment)
    options = options_for(checkpoint, output_dir=tmp_path, logit_adjustment=logit_adjustment)

    in_tasks = evaluate_checkpoint(spark, options, set_dir=reordered_set)[1]
    in_one_process = in_process(directory, reordered_set, checkpoint, logit_adjustment=logit_adjustment)

    assert expected["splits"][TEST]["accuracy"] > 0.5 or logit_adjustment
    assert expected["best_on_validation"] is not None, "the set is the one that the epoch was chosen on"
    for found in (in_tasks, in_one_process):
        assert found["best_on_validation"] is None
        assert found["class_names"] == ["class 2", "class 0", "class 1"]
        assert found["class_counts"] == [expected["class_counts"][old] for old in REORDER]
        assert found["splits"][TEST]["accuracy"] == expected["splits"][TEST]["accuracy"]
        assert by_class(found).keys() == by_class(expected).keys()
        for split, classes in by_class(expected).items():
            for name, sums in classes.items():
                assert by_class(found)[split][name] == pytest.approx(sums, rel=1e-5, abs=1e-6)


def test_a_checkpoint_of_other_classes_is_refused(
    spark: SparkSession, directory: Path, set_dir: Path, checkpoint: Path
) -> None:
    renamed = shutil.copytree(set_dir, directory / "renamed")
    names = ["class 0", "a new name", "class 2"]
    dataclasses.replace(read_manifest(renamed), class_names=names).write(renamed)
    for attempt in (
        lambda: evaluate_checkpoint(spark, options_for(checkpoint), set_dir=renamed),
        lambda: in_process(directory, renamed, checkpoint),
    ):
        with refused() as messages:
            attempt()
        assert f"{checkpoint} is for other classes than {renamed}: it lacks a new name and has class 1" in messages[0]


def test_a_training_does_not_go_on_with_the_classes_in_another_order(
    reordered_set: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = tiny_options(TrainOptions, resume=checkpoint, epochs=13, **LOSS)
    with refused() as messages:
        run_training(options, paths_of(reordered_set, tmp_path / "run"), ALONE, attempt=1)
    assert (
        f"{checkpoint} has the classes of {reordered_set} in another order (class 0 is 'class 0' there" in messages[0]
    )


@pytest.mark.long
def test_a_renamed_class_is_never_evaluated_as_another(job: RunJob, tmp_path: Path) -> None:
    """Through the jobs, with class folders: the alphabetical order changes, or the set is in another order."""
    for number, name in enumerate(("ant", "bee", "cat")):
        generator = np.random.default_rng(number)
        for image in range((20, 15, 12)[number]):
            pixels = generator.integers(0, 100, (8, 8, 3), dtype=np.uint8)
            pixels[3 * number : 3 * number + 2] += 150
            file = tmp_path / "images" / name / f"{image}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    data = ["--dataset", "folder", "--path", "images", "--image_size", 8]
    trained = job("train", *data, "-a", "resnet20", "--epochs", 12, "-b", 8, "--lr", 0.05, "--threads", 1)
    assert trained.returncode == 0, trained.stderr
    (checkpoint,) = tmp_path.glob("runs/*/ckpt.pth.tar")
    accuracy = next(line for line in trained.stdout.splitlines() if line.startswith("last epoch:"))

    (prepared,) = tmp_path.glob("datasets/prepared/*")
    found = job("evaluate", "--resume", checkpoint)
    assert found.returncode == 0 and accuracy in found.stdout
    assert f"from {checkpoint}: the prepared set {prepared}" in found.stdout
    reorder_classes(prepared, [2, 0, 1])
    reordered = job("evaluate", *data, "--resume", checkpoint)
    assert reordered.returncode == 0 and accuracy in reordered.stdout

    (tmp_path / "images" / "ant").rename(tmp_path / "images" / "wasp")
    for arguments in (["evaluate", *data], ["train", *data, "--epochs", 13, "-a", "resnet20"]):
        refusal = job(*arguments, "--resume", checkpoint)
        assert refusal.returncode == 2 and len(refusal.stderr.splitlines()) == 1
        assert "it lacks wasp and has ant instead" in refusal.stderr
