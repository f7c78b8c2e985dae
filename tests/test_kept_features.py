"""Features that are computed once and kept beside a set: by Spark or by the training itself, the same ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.train_classifier import TrainClassifierOptions
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import TEST, TRAIN, UNLABELED, VAL
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.spark_jobs.steps.features import keep_features
from longtail.training import kept_features
from longtail.training.augmentation import Normalisation
from longtail.training.kept_features import features_directory
from longtail.training.run import run_training
from tests.tiny_set import (
    ALONE,
    COUNTS,
    paths_of,
    tiny_options,
    unlabeled_ids,
    write_pseudo_labels,
    write_tiny_set,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def start(set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a network trained on all labels."""
    run_dir = tmp_path_factory.mktemp("start") / "run"
    run_training(tiny_options(TrainOptions, epochs=2), paths_of(set_dir, run_dir), ALONE, attempt=1)
    return run_dir / "ckpt.pth.tar"


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> torch.Tensor:
        raise AssertionError("the features are there")

    monkeypatch.setattr(kept_features, "computed_features", refuse)


def train(options: RunOptions, set_dir: Path, root: Path, **inputs: Any) -> dict[str, Any]:
    return run_training(options, paths_of(set_dir, root / "run", **inputs), ALONE, attempt=1)


def kept_in(set_dir: Path) -> dict[str, dict[int, list[float]]]:
    """By split, the features of each id."""
    (directory,) = (set_dir / "features").iterdir()
    tables = {split.name: pq.read_table(split) for split in directory.iterdir()}
    return {
        split: dict(zip(rows["id"].to_pylist(), rows["features"].to_pylist(), strict=True))
        for split, rows in tables.items()
    }  # fmt: skip


def test_spark_computes_the_features_that_a_training_computes_without_it(
    spark: SparkSession, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_spark, by_training = (write_tiny_set(tmp_path / name) for name in ("spark", "training"))
    options = tiny_options(TrainOptions, pretrained_model=start, tune="head")
    keep_features(spark, options, by_spark)
    assert "computing the features of 76 images once" in capsys.readouterr().out
    alone = train(options, by_training, tmp_path / "alone")

    found, expected = kept_in(by_spark), kept_in(by_training)
    assert {split: len(rows) for split, rows in found.items()} == {TRAIN: 40, VAL: 6, TEST: 30}
    assert found == expected, "to the last bit"
    assert [path.name for path in by_spark.rglob(".*") if path.is_dir()] == []
    keep_features(spark, options, by_spark)
    assert capsys.readouterr().out == "", "nothing is left to compute"
    assert train(options, by_spark, tmp_path / "after")["splits"] == alone["splits"]


@pytest.mark.usefixtures("nothing_is_computed")
def test_the_next_training_and_the_second_stages_find_the_features_of_the_same_backbone(
    spark: SparkSession, start: Path, tmp_path: Path
) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    table = write_pseudo_labels(tmp_path / "labels", unlabeled_ids(), [0, 1, 2] * 4, [0.9] * 12)
    semi = tiny_options(TrainSemiOptions, pretrained_model=start, tune="head", imb_factor_unlabel=1.0)
    keep_features(spark, semi, set_dir)
    assert {split: len(rows) for split, rows in kept_in(set_dir).items()}[UNLABELED] == sum(COUNTS[UNLABELED])

    train(semi, set_dir, tmp_path / "semi", pseudo_labels=table)
    train(tiny_options(TrainOptions, pretrained_model=start, tune="head", loss_type="LDAM"), set_dir, tmp_path / "ldam")
    for method in ("tau", "NCM", "cRT"):
        second = tiny_options(
            TrainClassifierOptions, resume=start, method=method, kept_features=method == "cRT", epochs=1
        )  # fmt: skip
        train(second, set_dir, tmp_path / method)


def test_other_weights_other_normalisation_and_another_set_have_features_of_their_own(set_dir: Path) -> None:
    manifest = read_manifest(set_dir)
    torch.manual_seed(0)
    network, normalisation = build_model("resnet20", num_classes=3, in_channels=1), Normalisation((0.5,), (0.25,))
    first = features_directory(set_dir, network, normalisation, manifest)
    with torch.no_grad():
        network.fc.bias.add_(1)
    assert features_directory(set_dir, network, normalisation, manifest) == first, "the head does not matter"
    nearly = Normalisation((0.5 + 1e-12,), (0.25,))
    assert features_directory(set_dir, network, nearly, manifest) == first, "as float32 it is the same"
    others = [features_directory(set_dir, network, Normalisation((0.5,), (0.2500001,)), manifest)]
    with torch.no_grad():
        network.state_dict()["layer3.1.bn2.running_var"][7] += 1e-6
    others.append(features_directory(set_dir, network, normalisation, manifest))
    assert len({first, *others}) == 3


def test_where_the_tasks_cannot_read_the_set_the_ranks_compute(
    spark: SparkSession, start: Path, tmp_path: Path
) -> None:
    set_dir = write_tiny_set(tmp_path / "set")
    options = tiny_options(TrainOptions, pretrained_model=start, tune="head", data_through="partitions")
    keep_features(spark, options, set_dir)
    keep_features(spark, tiny_options(TrainOptions), set_dir)  # nor for a training of all layers
    assert not (set_dir / "features").exists()
    train(options, set_dir, tmp_path)
    assert np.isfinite(list(kept_in(set_dir)[TRAIN].values())).all()
